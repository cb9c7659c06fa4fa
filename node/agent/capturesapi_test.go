package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/transparent-checkpoint/operator/apis/checkpoint/v1alpha1"
)

// An API server for the exploration of a capture's life: of what the real one does it has what agent and manager rely on there, and its whole state is a
// map that costs nothing to keep and to put back, thousands of times. tests/integration has the real one.

// kept is one object. It is never changed, but replaced.
type kept struct {
	// data is its JSON without a resourceVersion, of which version is the one.
	data    string
	version int
	// owners has, for each field manager, the fields of the status that it has applied.
	owners map[string]map[string]bool
}

// server is the API server. The keys are Kind/namespace/name.
type server struct {
	objects map[string]kept
	writes  int
	// made counts objects by their key, for their UIDs.
	made int
}

func keyOfObject(kind, namespace, name string) string { return kind + "/" + namespace + "/" + name }

func kindOf(o any) string { return reflect.TypeOf(o).Elem().Name() }

// user is what a process does its calls with. Around is called around each of its writes.
type user struct {
	client.Client
	life   *life
	around func(do func() error) error
}

func (u *user) Get(_ context.Context, key client.ObjectKey, into client.Object, _ ...client.GetOption) error {
	u.life.mu.Lock()
	defer u.life.mu.Unlock()
	return u.life.server.get(kindOf(into), key, into)
}

func (s *server) get(kind string, key client.ObjectKey, into client.Object) error {
	there, is := s.objects[keyOfObject(kind, key.Namespace, key.Name)]
	if !is {
		return apierrors.NewNotFound(schema.GroupResource{Resource: kind}, key.Name)
	}
	return there.into(into)
}

func (k kept) into(object client.Object) error {
	value := reflect.ValueOf(object).Elem()
	value.SetZero()
	err := json.Unmarshal([]byte(k.data), object)
	object.SetResourceVersion(fmt.Sprint(k.version))
	return err
}

func (u *user) List(_ context.Context, into client.ObjectList, opts ...client.ListOption) error {
	u.life.mu.Lock()
	defer u.life.mu.Unlock()
	where := (&client.ListOptions{}).ApplyOptions(opts)
	kind := strings.TrimSuffix(kindOf(into), "List")
	items := reflect.ValueOf(into).Elem().FieldByName("Items")
	for _, key := range slices.Sorted(maps.Keys(u.life.server.objects)) {
		if !strings.HasPrefix(key, kind+"/") {
			continue
		}
		item := reflect.New(items.Type().Elem())
		object := item.Interface().(client.Object)
		if err := u.life.server.objects[key].into(object); err != nil {
			return err
		}
		isElsewhere := where.Namespace != "" && object.GetNamespace() != where.Namespace
		if isElsewhere || where.LabelSelector != nil && !where.LabelSelector.Matches(labels.Set(object.GetLabels())) {
			continue
		}
		items.Set(reflect.Append(items, item.Elem()))
	}
	return nil
}

func (u *user) Create(_ context.Context, o client.Object, _ ...client.CreateOption) error {
	return u.around(func() error {
		o.SetCreationTimestamp(metav1.NewTime(u.life.now()))
		return u.life.server.create(o)
	})
}

func (s *server) create(o client.Object) error {
	kind := kindOf(o)
	key := keyOfObject(kind, o.GetNamespace(), o.GetName())
	if _, is := s.objects[key]; is {
		return apierrors.NewAlreadyExists(schema.GroupResource{Resource: kind}, o.GetName())
	}
	if o.GetUID() == "" {
		s.made++
		o.SetUID(uid(fmt.Sprintf("%s-uid-%d", o.GetName(), s.made)))
	}
	tree, err := treeOf(o)
	if err != nil {
		return err
	}
	if kind == "Checkpoint" {
		delete(tree, "status") // it is a subresource
	}
	return s.put(key, kept{}, tree, o)
}

// put stores a tree as an object, and returns it in into.
func (s *server) put(key string, old kept, tree map[string]any, into client.Object) error {
	metadata := tree["metadata"].(map[string]any)
	delete(metadata, "resourceVersion")
	data, err := json.Marshal(tree)
	if err != nil {
		return err
	}
	if old.data == string(data) { // nothing has changed, but perhaps who says it
		s.objects[key] = old
		if into != nil {
			return old.into(into)
		}
		return nil
	}
	if old.data != "" && strings.HasPrefix(key, "Checkpoint/") {
		if err := admitChange(old.data, string(data)); err != nil {
			return apierrors.NewInvalid(schema.GroupKind{Kind: "Checkpoint"}, key, nil)
		}
	}
	s.writes++
	next := kept{data: string(data), version: s.writes, owners: old.owners}
	if finalizers, _ := metadata["finalizers"].([]any); metadata["deletionTimestamp"] != nil && len(finalizers) == 0 {
		delete(s.objects, key)
	} else {
		s.objects[key] = next
	}
	if into != nil {
		return next.into(into)
	}
	return nil
}

// admitChange keeps those rules of the schema that are about a change of the status (apis/checkpoint/v1alpha1, checked on a real API server by
// tests/integration).
func admitChange(was, is string) error {
	var old, now v1alpha1.Checkpoint
	if err := errors.Join(json.Unmarshal([]byte(was), &old), json.Unmarshal([]byte(is), &now)); err != nil {
		return err
	}
	switch o, n := old.Status, now.Status; {
	case o.Source != nil && !reflect.DeepEqual(o.Source, n.Source):
		return errors.New("source is immutable once set")
	case o.ManifestDigest != "" && o.ManifestDigest != n.ManifestDigest:
		return errors.New("manifestDigest is immutable once set")
	case o.StorageName != "" && o.StorageName != n.StorageName:
		return errors.New("storageName is immutable once set")
	}
	return nil
}

func (u *user) Delete(_ context.Context, o client.Object, opts ...client.DeleteOption) error {
	return u.around(func() error {
		s, key := u.life.server, keyOfObject(kindOf(o), o.GetNamespace(), o.GetName())
		there, is := s.objects[key]
		if !is {
			return apierrors.NewNotFound(schema.GroupResource{Resource: key}, o.GetName())
		}
		tree, err := there.tree()
		if err != nil {
			return err
		}
		if p := (&client.DeleteOptions{}).ApplyOptions(opts).Preconditions; p != nil {
			if err := there.meets(o.GetName(), tree, (*string)(p.UID), p.ResourceVersion); err != nil {
				return err
			}
		}
		metadata := tree["metadata"].(map[string]any)
		if metadata["deletionTimestamp"] == nil {
			metadata["deletionTimestamp"] = u.life.now().UTC().Format("2006-01-02T15:04:05Z")
		}
		return s.put(key, there, tree, nil)
	})
}

// meets returns a conflict unless the object has the UID and the version that somebody expects, of whom nil expects nothing.
func (k kept) meets(name string, tree map[string]any, uid, version *string) error {
	metadata := tree["metadata"].(map[string]any)
	if uid != nil && *uid != "" && metadata["uid"] != *uid || version != nil && *version != "" && fmt.Sprint(k.version) != *version {
		return apierrors.NewConflict(schema.GroupResource{}, name, errors.New("it has changed"))
	}
	return nil
}

func (u *user) Patch(_ context.Context, o client.Object, patch client.Patch, _ ...client.PatchOption) error {
	return u.around(func() error {
		s, key := u.life.server, keyOfObject(kindOf(o), o.GetNamespace(), o.GetName())
		there, is := s.objects[key]
		if !is {
			return apierrors.NewNotFound(schema.GroupResource{Resource: key}, o.GetName())
		}
		data, err := patch.Data(o)
		if err != nil {
			return err
		}
		var change map[string]any
		tree, treeErr := there.tree()
		if err := errors.Join(treeErr, json.Unmarshal(data, &change)); err != nil {
			return err
		}
		delete(change, "status")
		if metadata, _ := change["metadata"].(map[string]any); metadata != nil {
			if version, _ := metadata["resourceVersion"].(string); version != "" {
				if err := there.meets(o.GetName(), tree, nil, &version); err != nil {
					return err
				}
			}
		}
		merge(tree, change)
		return s.put(key, there, tree, o)
	})
}

// merge is that of JSON Merge Patch, RFC 7386.
func merge(into, change map[string]any) {
	for key, value := range change {
		inner, isMap := value.(map[string]any)
		old, wasMap := into[key].(map[string]any)
		switch {
		case value == nil:
			delete(into, key)
		case isMap && wasMap:
			merge(old, inner)
		default:
			into[key] = value
		}
	}
}

func (u *user) Status() client.SubResourceWriter { return statusUser{user: u} }

func (u *user) SubResource(string) client.SubResourceClient { return nil }

func (u *user) Scheme() *runtime.Scheme { return u.life.scheme }

func (u *user) RESTMapper() meta.RESTMapper { return nil }

type statusUser struct {
	client.SubResourceWriter
	user *user
}

// Apply is a server-side apply of a status, by force: what its manager has applied before and leaves out goes, unless another manager has applied it, too.
func (u statusUser) Apply(_ context.Context, wanted runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
	return u.user.around(func() error {
		s := u.user.life.server
		by := (&client.SubResourceApplyOptions{}).ApplyOpts(opts).FieldManager
		change, err := treeOf(wanted)
		if err != nil {
			return err
		}
		of := metav1.PartialObjectMetadata{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(map[string]any{"kind": change["kind"], "metadata": change["metadata"]}, &of); err != nil {
			return err
		}
		key := keyOfObject(of.Kind, of.Namespace, of.Name)
		there, is := s.objects[key]
		if !is {
			return apierrors.NewNotFound(schema.GroupResource{Resource: key}, of.Name)
		}
		tree, err := there.tree()
		if err != nil {
			return err
		}
		version := of.ResourceVersion
		if err := there.meets(of.Name, tree, (*string)(&of.UID), &version); err != nil {
			return err
		}
		status, _ := tree["status"].(map[string]any)
		fields, applied := map[string]any{}, map[string]any{}
		flatten("", status, fields)
		wantedStatus, _ := change["status"].(map[string]any)
		flatten("", wantedStatus, applied)
		there.owners = applyFields(there.owners, by, fields, applied)
		tree["status"] = grow(fields)
		return s.put(key, there, tree, nil)
	})
}

// applyFields changes fields as an apply does, and returns who owns which of them then.
func applyFields(owners map[string]map[string]bool, by string, fields, applied map[string]any) map[string]map[string]bool {
	next := map[string]map[string]bool{}
	for name, has := range owners {
		if name != by {
			next[name] = maps.Clone(has)
		}
	}
	for field := range owners[by] {
		if _, still := applied[field]; !still && !slices.ContainsFunc(slices.Collect(maps.Values(next)), func(has map[string]bool) bool { return has[field] }) {
			delete(fields, field)
		}
	}
	next[by] = map[string]bool{}
	for field, value := range applied {
		next[by][field] = true
		if !reflect.DeepEqual(fields[field], value) {
			for name, has := range next {
				if name != by {
					delete(has, field)
				}
			}
		}
		fields[field] = value
	}
	return next
}

// flatten puts the leaves of a tree into a map by their paths. The items of a list have the value of their key in it, as the schema says.
func flatten(path string, value any, into map[string]any) {
	switch v := value.(type) {
	case map[string]any:
		for name, inner := range v {
			flatten(path+"\x00"+name, inner, into)
		}
	case []any:
		for _, item := range v {
			m, isMap := item.(map[string]any)
			for _, key := range []string{"type", "name"} {
				if name, has := m[key].(string); isMap && has {
					flatten(path+"\x00["+name, m, into)
					break
				}
			}
			if !isMap {
				into[path] = v
			}
		}
	case nil:
	default:
		into[path] = v
	}
}

// grow is the reverse.
func grow(leaves map[string]any) map[string]any {
	root := map[string]any{}
	for path, value := range leaves {
		names, at := strings.Split(path, "\x00")[1:], root
		for _, name := range names[:len(names)-1] {
			inner, _ := at[name].(map[string]any)
			if inner == nil {
				inner = map[string]any{}
				at[name] = inner
			}
			at = inner
		}
		at[names[len(names)-1]] = value
	}
	return listed(root).(map[string]any)
}

func listed(value any) any {
	m, isMap := value.(map[string]any)
	if !isMap {
		return value
	}
	var list []any
	for _, name := range slices.Sorted(maps.Keys(m)) {
		m[name] = listed(m[name])
		if strings.HasPrefix(name, "[") {
			list = append(list, m[name])
		}
	}
	if list != nil {
		return list
	}
	return m
}

func (k kept) tree() (tree map[string]any, err error) {
	err = json.Unmarshal([]byte(k.data), &tree)
	return tree, err
}

func treeOf(o any) (tree map[string]any, err error) {
	data, err := json.Marshal(o)
	if err == nil {
		err = json.Unmarshal(data, &tree)
	}
	return tree, err
}
