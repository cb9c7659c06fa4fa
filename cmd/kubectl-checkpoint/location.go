package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/report"
)

func (c *cli) locationCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "location", Aliases: []string{"locations"}, Short: "The buckets in which states are kept: list, add, check, default",
		Example: `  kubectl checkpoint location list
  AWS_ACCESS_KEY_ID=… AWS_SECRET_ACCESS_KEY=… kubectl checkpoint location add main --endpoint https://s3.example.com --bucket states --default
  kubectl checkpoint location check main`,
	}
	command.AddCommand(c.locationListCommand(), c.locationAddCommand(), c.locationCheckCommand(), c.locationDefaultCommand())
	return command
}

func (c *cli) locationNames() cobra.CompletionFunc {
	return c.names(func() client.ObjectList { return &v1alpha1.CheckpointStorageLocationList{} })
}

func (c *cli) locationListCommand() *cobra.Command {
	o := &output{}
	command := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List them, and say whether they can be used", Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			k, err := c.client()
			if err != nil {
				return err
			}
			all := &v1alpha1.CheckpointStorageLocationList{}
			if err := k.List(command.Context(), all); err != nil {
				return explained(err)
			}
			if !o.isForAPerson() {
				return o.object(c, all)
			}
			if len(all.Items) == 0 {
				fmt.Fprintln(c.ErrOut, "There are none: states stay on their nodes. kubectl checkpoint location add adds one.")
				return nil
			}
			return report.WriteLocations(c.Out, all.Items, c.time())
		},
	}
	o.addTo(command, asJSON, asYAML)
	return command
}

// location reads one of which a person gave the name.
func (c *cli) location(ctx context.Context, k client.Client, name string) (*v1alpha1.CheckpointStorageLocation, error) {
	found := &v1alpha1.CheckpointStorageLocation{}
	err := k.Get(ctx, client.ObjectKey{Name: name}, found)
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no CheckpointStorageLocation %q; `kubectl checkpoint location list` shows those that there are", name)
	}
	return found, explained(err)
}

func (c *cli) locationCheckCommand() *cobra.Command {
	timeout := time.Minute
	command := &cobra.Command{
		Use: "check NAME", Short: "Have a location tried at once: an object is written, read and deleted", Args: cobra.ExactArgs(1),
		ValidArgsFunction: c.locationNames(),
		RunE: func(command *cobra.Command, args []string) error {
			k, err := c.client()
			if err != nil {
				return err
			}
			location, err := c.location(command.Context(), k, args[0])
			if err != nil {
				return err
			}
			// The manager tries a location anew when something of it changes: an annotation is enough.
			before, since := location.DeepCopy(), location.Status.LastValidationTime
			metav1.SetMetaDataAnnotation(&location.ObjectMeta, v1alpha1.LocationCheck, c.time().UTC().Format(time.RFC3339Nano))
			if err := k.Patch(command.Context(), location, client.MergeFrom(before)); err != nil {
				return explained(err)
			}
			return c.awaitLocation(command.Context(), k, location.Name, timeout, func(l *v1alpha1.CheckpointStorageLocation) bool {
				return l.Status.LastValidationTime != nil && (since == nil || l.Status.LastValidationTime.After(since.Time))
			})
		},
	}
	command.Flags().DurationVar(&timeout, "timeout", timeout, "for how long at most")
	return command
}

// awaitLocation waits until a location was tried, and says what came of it.
func (c *cli) awaitLocation(
	ctx context.Context, k client.Client, name string, timeout time.Duration, tried func(*v1alpha1.CheckpointStorageLocation) bool,
) error {
	for began := time.Now(); ; {
		location, err := c.location(ctx, k, name)
		if err != nil {
			return err
		}
		if tried(location) {
			reason, message, available := report.Availability(location)
			if !available {
				return fmt.Errorf("location %s cannot be used: %s: %s", name, reason, message)
			}
			fmt.Fprintf(c.Out, "location %s can be used: %s\n", name, message)
			return nil
		}
		if time.Since(began) > timeout {
			return fmt.Errorf("location %s was not tried within %s: is the manager running? kubectl checkpoint doctor", name, timeout)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(glance):
		}
	}
}

func (c *cli) locationDefaultCommand() *cobra.Command {
	return &cobra.Command{
		Use: "default NAME", Short: "Have new states stored in a location, and in no other that was the default", Args: cobra.ExactArgs(1),
		ValidArgsFunction: c.locationNames(),
		RunE: func(command *cobra.Command, args []string) error {
			k, err := c.client()
			if err != nil {
				return err
			}
			return c.makeDefault(command.Context(), k, args[0])
		},
	}
}

// makeDefault gives the role first and takes it from the others then: there is a default all the time.
func (c *cli) makeDefault(ctx context.Context, k client.Client, name string) error {
	wanted, err := c.location(ctx, k, name)
	if err != nil {
		return err
	}
	if wanted.IsReadOnly() {
		return fmt.Errorf("location %s has the accessMode ReadOnly: nothing can be stored in it", name)
	}
	all := &v1alpha1.CheckpointStorageLocationList{}
	if err := k.List(ctx, all); err != nil {
		return explained(err)
	}
	setRole := func(l *v1alpha1.CheckpointStorageLocation, role v1alpha1.LocationRole) error {
		before := l.DeepCopy()
		l.Spec.Role = role
		return explained(k.Patch(ctx, l, client.MergeFrom(before)))
	}
	if err := setRole(wanted, v1alpha1.RoleDefault); err != nil {
		return err
	}
	for i := range all.Items {
		if l := &all.Items[i]; l.Name != name && l.Spec.Role == v1alpha1.RoleDefault {
			if err := setRole(l, v1alpha1.RoleNamed); err != nil {
				return err
			}
			fmt.Fprintf(c.Out, "location %s is no default any more; what is stored there stays\n", l.Name)
		}
	}
	fmt.Fprintf(c.Out, "location %s is the default\n", name)
	return nil
}

// The environment variables from which credentials are taken, as other tools for S3 do: what stands in a command line others can see.
const (
	envAccessKey, envSecretKey, envSessionToken = "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"
)

func (c *cli) locationAddCommand() *cobra.Command {
	wanted := &v1alpha1.CheckpointStorageLocation{}
	spec, caFile, isDefault, timeout := &wanted.Spec, "", false, time.Minute
	command := &cobra.Command{
		Use: "add NAME --endpoint URL --bucket BUCKET", Short: "Add a bucket, with the credentials of the environment", Args: cobra.ExactArgs(1),
		Long: "Add a bucket, which must exist, and have it tried. The credentials are those of the environment variables AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY\n" +
			"and, for temporary ones, AWS_SESSION_TOKEN; they are kept in a Secret of the operator's namespace. With --secret an existing one is used.",
		RunE: func(command *cobra.Command, args []string) error {
			ctx := command.Context()
			k, err := c.client()
			if err != nil {
				return err
			}
			wanted.Name, spec.Role = args[0], v1alpha1.RoleNamed
			if caFile != "" {
				if spec.CABundle, err = os.ReadFile(caFile); err != nil {
					return fmt.Errorf("--ca-file: %w", err)
				}
			}
			var secret *corev1.Secret
			if spec.Credentials.SecretName == "" {
				if secret, err = c.secretOf(wanted.Name); err != nil {
					return err
				}
				spec.Credentials.SecretName = secret.Name
			}
			if err := k.Create(ctx, wanted.DeepCopy(), client.DryRunAll); err != nil { // bad input, before anything is made
				return explained(err)
			}
			if err := addSecret(ctx, k, secret); err != nil {
				return err
			}
			if err := k.Create(ctx, wanted); err != nil {
				return explained(err)
			}
			fmt.Fprintf(c.Out, "location %s added\n", wanted.Name)
			if isDefault {
				if err := c.makeDefault(ctx, k, wanted.Name); err != nil {
					return err
				}
			}
			return c.awaitLocation(ctx, k, wanted.Name, timeout, func(l *v1alpha1.CheckpointStorageLocation) bool { return l.Status.LastValidationTime != nil })
		},
	}
	flags := command.Flags()
	flags.StringVar(&spec.Endpoint, "endpoint", "", "the URL of the service, as https://s3.example.com")
	flags.StringVar(&spec.Bucket, "bucket", "", "the bucket")
	flags.StringVar(&spec.Region, "region", "", "the region that requests are signed for")
	flags.StringVar(&spec.Prefix, "prefix", "", "what is put before the name of every object")
	flags.StringVar(&spec.Credentials.SecretName, "secret", "", "a Secret of the operator's namespace that has the credentials")
	flags.StringVar(&caFile, "ca-file", "", "a file with the certificates, in PEM, that the service's may be signed by")
	flags.BoolVar(&isDefault, "default", false, "have new states stored in it")
	flags.DurationVar(&timeout, "timeout", timeout, "for how long at most it is waited for the manager")
	for _, name := range []string{"endpoint", "bucket"} {
		_ = command.MarkFlagRequired(name) // it is there
	}
	return command
}

// secretOf is the Secret of a location, with the credentials of the environment.
func (c *cli) secretOf(location string) (*corev1.Secret, error) {
	data := map[string][]byte{}
	for variable, key := range map[string]string{
		envAccessKey: v1alpha1.CredentialsAccessKeyID, envSecretKey: v1alpha1.CredentialsSecretAccessKey, envSessionToken: v1alpha1.CredentialsSessionToken,
	} {
		if value := os.Getenv(variable); value != "" {
			data[key] = []byte(value)
		}
	}
	if len(data[v1alpha1.CredentialsAccessKeyID]) == 0 || len(data[v1alpha1.CredentialsSecretAccessKey]) == 0 {
		return nil, fmt.Errorf("the environment lacks %s or %s; or --secret may name a Secret in namespace %s", envAccessKey, envSecretKey, c.operatorNamespace)
	}
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: c.operatorNamespace, Name: "location-" + location}, Data: data}, nil
}

// addSecret makes a Secret, if there is one to be made. One of that name is not overwritten.
func addSecret(ctx context.Context, k client.Client, secret *corev1.Secret) error {
	if secret == nil {
		return nil
	}
	err := k.Create(ctx, secret)
	if apierrors.IsAlreadyExists(err) {
		return errors.Join(err, fmt.Errorf("--secret may be %s, to use that one", secret.Name))
	}
	return explained(err)
}
