package main

import (
	"os"
	_ "time/tzdata" // cron jobs with a time zone

	"go.etcd.io/etcd/server/v3/etcdmain"
	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	manager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
)

func init() {
	parts["kube-apiserver"] = func() int { return cli.Run(apiserver.NewAPIServerCommand()) }
	parts["kube-controller-manager"] = func() int { return cli.Run(manager.NewControllerManagerCommand()) }
	parts["kube-scheduler"] = func() int { return cli.Run(scheduler.NewSchedulerCommand()) }
	parts["etcd"] = func() int {
		etcdmain.Main(append([]string{"etcd"}, os.Args[1:]...))
		return 0
	}
	parts["kubectl"] = func() int {
		_, _ = logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
		if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
			util.CheckErr(err) // prints it as kubectl does, and exits
		}
		return 0
	}
}
