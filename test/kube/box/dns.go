package main

import (
	"flag"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelist "k8s.io/client-go/listers/core/v1"
	discoverylist "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/clientcmd"
)

func init() { parts["cluster-dns"] = clusterDNS }

// clusterDNS answers for the names of Services and of the pods behind headless ones; UDP and IPv4 only, nothing outside
// the cluster.
func clusterDNS() int {
	flags := flag.NewFlagSet("cluster-dns", flag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "how to reach the API server")
	listen := flags.String("listen", "127.0.0.1:53", "address to listen on")
	domain := flags.String("domain", "cluster.local", "the cluster's domain")
	_ = flags.Parse(os.Args[1:])
	config, err := clientcmd.BuildConfigFromFlags("", *kubeconfig)
	if err != nil {
		return failed("cluster-dns", err)
	}
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(config), 0)
	z := zone{
		suffix:   ".svc." + *domain + ".",
		services: factory.Core().V1().Services().Lister(),
		slices:   factory.Discovery().V1().EndpointSlices().Lister(),
	}
	factory.Start(nil)
	factory.WaitForCacheSync(nil)
	socket, err := net.ListenPacket("udp4", *listen)
	if err != nil {
		return failed("cluster-dns", err)
	}
	buffer := make([]byte, 4096)
	for {
		n, from, err := socket.ReadFrom(buffer)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		if answer := z.answer(buffer[:n]); answer != nil {
			_, _ = socket.WriteTo(answer, from)
		}
	}
}

type zone struct {
	suffix   string
	services corelist.ServiceLister
	slices   discoverylist.EndpointSliceLister
}

// answer is the reply to one query; nil to what is none.
func (z zone) answer(query []byte) []byte {
	var parser dnsmessage.Parser
	header, err := parser.Start(query)
	if err != nil || header.Response {
		return nil
	}
	question, err := parser.Question()
	if err != nil {
		return nil
	}
	addresses, known := z.lookup(strings.ToLower(question.Name.String()))
	reply := dnsmessage.Header{ID: header.ID, Response: true, Authoritative: true, RecursionDesired: header.RecursionDesired, RecursionAvailable: true}
	if !known {
		reply.RCode = dnsmessage.RCodeNameError
	}
	b := dnsmessage.NewBuilder(nil, reply)
	_ = b.StartQuestions()
	_ = b.Question(question)
	_ = b.StartAnswers()
	for _, a := range addresses {
		if ip := net.ParseIP(a).To4(); ip != nil && question.Type == dnsmessage.TypeA {
			_ = b.AResource(dnsmessage.ResourceHeader{Name: question.Name, Class: dnsmessage.ClassINET, TTL: 1}, dnsmessage.AResource{A: [4]byte(ip)})
		}
	}
	message, err := b.Finish()
	if err != nil {
		return nil
	}
	return message
}

// lookup knows SERVICE.NAMESPACE.svc.DOMAIN and HOST.SERVICE.NAMESPACE.svc.DOMAIN.
func (z zone) lookup(name string) (addresses []string, known bool) {
	short, inside := strings.CutSuffix(name, z.suffix)
	words := strings.Split(short, ".")
	host := ""
	if len(words) == 3 {
		host, words = words[0], words[1:]
	}
	if !inside || len(words) != 2 {
		return nil, false
	}
	service, err := z.services.Services(words[1]).Get(words[0])
	if err != nil {
		return nil, false
	}
	if service.Spec.ClusterIP != core.ClusterIPNone {
		return []string{service.Spec.ClusterIP}, host == ""
	}
	slices, err := z.slices.EndpointSlices(service.Namespace).List(labels.Set{discovery.LabelServiceName: service.Name}.AsSelector())
	if err != nil {
		return nil, false
	}
	for _, slice := range slices {
		for _, e := range slice.Endpoints {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready || service.Spec.PublishNotReadyAddresses
			if ready && (host == "" || e.Hostname != nil && *e.Hostname == host) {
				addresses = append(addresses, e.Addresses...)
			}
		}
	}
	return addresses, host == "" || len(addresses) > 0
}
