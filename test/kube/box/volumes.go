package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	core "k8s.io/api/core/v1"
	storage "k8s.io/api/storage/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
)

func init() { parts["local-volumes"] = localVolumes }

// provisioner is what the storage classes of the test cluster name.
const provisioner = "regent-ha/local-volumes"

// localVolumes gives each claim of its storage classes a folder on this node, as a volume of type local, which heeds fsGroup
// as a disk does and unlike a hostPath; it deletes the folder when the claim is gone. In a class with the parameter
// "bounded" the folder is a file system of the claim's size in memory, so that it can run full.
func localVolumes() int {
	flags := flag.NewFlagSet("local-volumes", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	node := flags.String("node", "", "this node's name")
	dir := flags.String("dir", "", "where the folders lie")
	_ = flags.Parse(os.Args[1:])
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return failed("local-volumes", err)
	}
	v := volumes{kubernetes.NewForConfigOrDie(config), *node, *dir}
	for ; ; time.Sleep(200 * time.Millisecond) {
		if err := v.round(context.Background()); err != nil {
			fmt.Fprintln(os.Stderr, time.Now().Format(time.TimeOnly), err)
		}
	}
}

type volumes struct {
	client    kubernetes.Interface
	node, dir string
}

// round makes what is missing and removes what is not claimed any more. Polling is enough for one node.
func (v volumes) round(ctx context.Context) error {
	classes, err := v.client.StorageV1().StorageClasses().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	ours := map[string]storage.StorageClass{}
	for _, c := range classes.Items {
		if c.Provisioner == provisioner {
			ours[c.Name] = c
		}
	}
	have, err := v.client.CoreV1().PersistentVolumes().List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	exists := map[string]bool{}
	for i := range have.Items {
		exists[have.Items[i].Name] = true
		if err := v.reclaim(ctx, &have.Items[i]); err != nil {
			return err
		}
	}
	claims, err := v.client.CoreV1().PersistentVolumeClaims("").List(ctx, meta.ListOptions{})
	if err != nil {
		return err
	}
	for i := range claims.Items {
		c := &claims.Items[i]
		if c.Spec.StorageClassName == nil || c.Spec.VolumeName != "" || c.Annotations["volume.kubernetes.io/selected-node"] != v.node {
			continue
		}
		class, known := ours[*c.Spec.StorageClassName]
		if name := "pvc-" + string(c.UID); known && !exists[name] {
			if err := v.provide(ctx, name, c, class.Parameters["bounded"] == "true"); err != nil {
				return err
			}
		}
	}
	return nil
}

// reclaim deletes a volume of ours whose claim is gone.
func (v volumes) reclaim(ctx context.Context, pv *core.PersistentVolume) error {
	if pv.Annotations["pv.kubernetes.io/provisioned-by"] != provisioner || pv.Status.Phase != core.VolumeReleased || pv.DeletionTimestamp != nil {
		return nil
	}
	_ = syscall.Unmount(pv.Spec.Local.Path, syscall.MNT_DETACH) // it is a mount point in a bounded class only
	if err := os.RemoveAll(pv.Spec.Local.Path); err != nil {
		return err
	}
	return v.client.CoreV1().PersistentVolumes().Delete(ctx, pv.Name, meta.DeleteOptions{})
}

func (v volumes) provide(ctx context.Context, name string, claim *core.PersistentVolumeClaim, bounded bool) error {
	path := filepath.Join(v.dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if bounded {
		size := claim.Spec.Resources.Requests[core.ResourceStorage]
		if err := syscall.Mount("volume", path, "tmpfs", 0, fmt.Sprintf("size=%d", size.Value())); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	if err := os.Chmod(path, 0o755); err != nil { // a new disk belongs to root
		return err
	}
	_, err := v.client.CoreV1().PersistentVolumes().Create(ctx, &core.PersistentVolume{
		ObjectMeta: meta.ObjectMeta{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": provisioner}},
		Spec: core.PersistentVolumeSpec{
			Capacity:                      claim.Spec.Resources.Requests,
			AccessModes:                   claim.Spec.AccessModes,
			StorageClassName:              *claim.Spec.StorageClassName,
			PersistentVolumeReclaimPolicy: core.PersistentVolumeReclaimRetain,
			ClaimRef: &core.ObjectReference{
				Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID,
			},
			PersistentVolumeSource: core.PersistentVolumeSource{Local: &core.LocalVolumeSource{Path: path}},
			NodeAffinity: &core.VolumeNodeAffinity{Required: &core.NodeSelector{NodeSelectorTerms: []core.NodeSelectorTerm{{
				MatchExpressions: []core.NodeSelectorRequirement{{Key: core.LabelHostname, Operator: core.NodeSelectorOpIn, Values: []string{v.node}}},
			}}}},
		},
	}, meta.CreateOptions{})
	return err
}
