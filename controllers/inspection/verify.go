package inspection

import (
	"context"
	"errors"
	"slices"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
	"github.com/transparent-checkpoint/operator/internal/inspect"
	"github.com/transparent-checkpoint/operator/storage"
)

// Verify reads all of a state, and compares it with what was written. progress is told how many bytes of its files are done; nil is not.
func (i *Inspector) Verify(ctx context.Context, of client.ObjectKey, progress func(done, total int64)) (*inspect.Verification, error) {
	s, err := i.state(ctx, of)
	if err != nil {
		return nil, err
	}
	v := &inspect.Verification{Namespace: of.Namespace, Checkpoint: of.Name, Location: s.checkpoint.Status.LocationName}
	found, err := s.folder.Examine(ctx, s.name, progress)
	if errors.Is(err, storage.ErrNotExist) {
		v.Damages = []inspect.Damage{{
			Object: s.folder.Name + "/manifests/" + s.name.Name, Problem: "it is not there: without its manifest nothing of the state can be read",
		}}
		return v, nil
	}
	if err != nil {
		return nil, err
	}
	v.Files, v.Bytes, v.Packs, v.Stored = found.Files, found.Bytes, found.Packs, found.Stored
	if len(found.Damages) == 0 {
		return v, nil
	}
	names, err := i.names(ctx, s.checkpoint)
	if err != nil {
		return nil, err
	}
	for _, d := range found.Damages {
		v.Damages = append(v.Damages, inspect.Damage{
			Object: d.Object, Offset: d.Offset, Length: d.Length, Problem: d.Problem, Files: d.Files, SharedWith: named(d.Others, names),
		})
	}
	v.Unread = named(found.Unread, names)
	return v, nil
}

// names are those of the Checkpoints that lie in the location of one, in its namespace, by what they are called there.
func (i *Inspector) names(ctx context.Context, like *v1alpha1.Checkpoint) (map[string]string, error) {
	all := &v1alpha1.CheckpointList{}
	if err := i.Reader.List(ctx, all, client.InNamespace(like.Namespace)); err != nil {
		return nil, err
	}
	names := map[string]string{}
	for i := range all.Items {
		if c := &all.Items[i]; c.Status.LocationName == like.Status.LocationName {
			names[c.StorageName()] = c.Name
		}
	}
	return names, nil
}

// named puts the names of Checkpoints in the place of what they are called in the bucket, where there are such.
func named(stored []string, names map[string]string) []string {
	all := slices.Clone(stored)
	for i, name := range all {
		if of, is := names[name]; is {
			all[i] = of
		}
	}
	slices.Sort(all)
	return all
}
