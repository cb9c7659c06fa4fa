package main

import (
	"flag"
	"fmt"
	"os"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/transparent-checkpoint/operator/controllers/removal"
)

// uninstall takes the operator out of the cluster, and ends the program with 1 when that did not succeed.
func uninstall(args []string) {
	var o removal.Options
	flags := flag.NewFlagSet("uninstall", flag.ExitOnError)
	flags.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the manager's namespace; default is POD_NAMESPACE")
	flags.BoolVar(&o.KeepObjects, "keep-objects", false, "leave the Kubernetes objects to whoever installed them, but for what has to go first")
	flags.BoolVar(&o.KeepCRDs, "keep-crds", false, "leave the CustomResourceDefinitions, and with them all Checkpoints and policies")
	flags.BoolVar(&o.LeaveStates, "leave-states", false, "go on though there are states that only the disk of a node has; they stay there")
	flags.DurationVar(&o.Patience, "patience", 10*time.Minute, "how long to wait for states on their way to the bucket, for agents, and for the manager, each")
	_ = flags.Parse(args) // it ends the program by itself
	ctrl.SetLogger(zap.New())
	if err := remove(o); err != nil {
		fmt.Fprintln(os.Stderr, "uninstall:", err)
		os.Exit(1)
	}
}

func remove(o removal.Options) error {
	if o.Namespace == "" {
		return fmt.Errorf("--namespace (or POD_NAMESPACE) is empty; it may be the namespace of the manager")
	}
	if o.Patience < time.Second {
		return fmt.Errorf("--patience is %s; it may be 1s or more", o.Patience)
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	s := scheme()
	if err := apiextensionsv1.AddToScheme(s); err != nil {
		return err
	}
	c, err := client.New(config, client.Options{Scheme: s})
	if err != nil {
		return err
	}
	r := removal.Removal{Options: o, Client: c, Out: os.Stdout}
	return r.Run(ctrl.SetupSignalHandler())
}
