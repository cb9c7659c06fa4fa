package inspection

import (
	"cmp"
	"context"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/internal/keys"
	"github.com/transparent-checkpoint/operator/storage/image"
)

// Usage tells what is in the buckets of all locations, or what of a namespace is; "" is all. A location that cannot be looked through says why.
func (i *Inspector) Usage(ctx context.Context, namespace string) (*inspect.Usage, error) {
	locations, checkpoints := &v1alpha1.CheckpointStorageLocationList{}, &v1alpha1.CheckpointList{}
	if err := i.Reader.List(ctx, locations); err != nil {
		return nil, err
	}
	if err := i.Reader.List(ctx, checkpoints, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	u := &inspect.Usage{}
	for n := range locations.Items {
		location := &locations.Items[n]
		l := inspect.LocationUsage{Name: location.Name, Bucket: location.Spec.Bucket, Prefix: location.Spec.Prefix}
		if err := i.look(ctx, location, &l, known(location.Name, checkpoints.Items), namespace); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			l.Problem = err.Error()
		}
		u.Locations = append(u.Locations, l)
	}
	return u, i.nameWorkloads(ctx, u, checkpoints.Items)
}

// place is where the state of a Checkpoint lies in a location.
type place struct{ namespace, storageName string }

// known are the names of the Checkpoints of a location, by where they lie.
func known(location string, all []v1alpha1.Checkpoint) map[place]string {
	names := map[place]string{}
	for i := range all {
		if c := &all[i]; c.Status.LocationName == location {
			names[place{c.Namespace, c.StorageName()}] = c.Name
		}
	}
	return names
}

// look goes through the bucket of a location.
func (i *Inspector) look(ctx context.Context, location *v1alpha1.CheckpointStorageLocation, l *inspect.LocationUsage, names map[place]string,
	namespace string,
) error {
	b, err := i.bucket(ctx, location)
	if err != nil {
		return err
	}
	states, logs := keys.StorageRoot, keys.DiagnosisRoot+"/"
	if namespace != "" {
		states, logs = states+"/"+namespace, logs+namespace+"/"
	}
	for space, err := range image.Spaces(ctx, b.store, b.keys, states) {
		if err != nil {
			return err
		}
		of, lineage, isOurs := keys.OfStorageFolder(space.Folder)
		if !isOurs {
			continue
		}
		f := inspect.FolderUsage{
			Namespace: of, Lineage: lineage, Objects: space.Objects, Bytes: space.Bytes, Shared: space.Shared, Uploading: space.Uploading, Unnamed: space.Unnamed,
		}
		for _, c := range space.Checkpoints {
			f.Checkpoints = append(f.Checkpoints, inspect.CheckpointUsage{
				Name: names[place{of, c.Name}], StorageName: c.Name, Stored: c.Modified, Logical: c.Logical, Own: c.Own, Shared: c.Shared, Problem: c.Problem,
			})
		}
		slices.SortStableFunc(f.Checkpoints, func(x, y inspect.CheckpointUsage) int { return y.Stored.Compare(x.Stored) })
		l.Folders = append(l.Folders, f)
	}
	for info, err := range b.store.List(ctx, logs, "") {
		if err != nil {
			return err
		}
		l.Logs += info.Size
	}
	return nil
}

// nameWorkloads says what made the captured pods, as far as Checkpoints tell.
func (i *Inspector) nameWorkloads(ctx context.Context, u *inspect.Usage, checkpoints []v1alpha1.Checkpoint) error {
	type line struct{ namespace, lineage string }
	workloads := map[line]string{}
	for n := range checkpoints {
		c := &checkpoints[n]
		if c.Status.Source == nil || c.Status.LocationName == "" {
			continue
		}
		of := line{c.Namespace, c.Status.Source.Lineage}
		if workloads[of] != "" {
			continue
		}
		name, err := i.workload(ctx, c)
		if err != nil {
			return err
		}
		workloads[of] = name
	}
	for n := range u.Locations {
		folders := u.Locations[n].Folders
		for k := range folders {
			folders[k].Workload = workloads[line{folders[k].Namespace, folders[k].Lineage}]
		}
		slices.SortStableFunc(folders, func(x, y inspect.FolderUsage) int {
			return cmp.Or(cmp.Compare(x.Namespace, y.Namespace), cmp.Compare(x.Workload, y.Workload), cmp.Compare(x.Lineage, y.Lineage))
		})
	}
	return nil
}

// workload is what made the pod of a Checkpoint, as Deployment/web, or Pod/NAME of a plain one.
func (i *Inspector) workload(ctx context.Context, c *v1alpha1.Checkpoint) (string, error) {
	owner := c.Status.Source.Owner
	if owner == nil {
		return "Pod/" + c.Spec.SourcePodName, nil
	}
	if owner.Kind == "ReplicaSet" {
		set := &appsv1.ReplicaSet{}
		err := i.Reader.Get(ctx, client.ObjectKey{Namespace: c.Namespace, Name: owner.Name}, set)
		if client.IgnoreNotFound(err) != nil {
			return "", err
		}
		if above := metav1.GetControllerOf(set); err == nil && set.UID == owner.UID && above != nil {
			return above.Kind + "/" + above.Name, nil
		}
	}
	return owner.Kind + "/" + owner.Name, nil
}
