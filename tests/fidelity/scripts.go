package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"

	"github.com/transparent-checkpoint/operator/tests/images/scripts"
)

// common is the image of the programs that `make test` runs, and of what needs no more than they do.
var common = Image{Name: "localhost/fidelity-common:1", Build: []string{
	"--from-debian=python3,python3-numpy,python3-psycopg2,procps,tini,redis-server,postgresql,openjdk-21-jre-headless",
}}

// more is the image of programs that take longer to install.
var more = Image{Name: "localhost/fidelity-more:1", Build: []string{
	"--from-debian=python3,python3-pymysql,python3-pika,procps,mariadb-server,nginx-light,memcached,rabbitmq-server,nodejs,ruby",
}}

// The users of databases are those that Debian's packages make in these images.
const (
	postgresUser, postgresGroup = int64(101), int64(103)
	mariadbUser, mariadbGroup   = int64(100), int64(101)
)

// debianPrograms are those of Debian, and scripts for them.
func debianPrograms() []Program {
	return []Program{
		quick(scripted("bash", "variables, traps, descriptors, a background job and a coprocess of a shell", "bash", "-c", inline("bash.sh"))),
		scripted("dash", "a shell that reads from a fifo", "sh", "-c", inline("dash.sh")),
		scripted("pipeline", "three processes and what is under way between them", "sh", "-c", inline("pipeline.sh")),
		quick(withMemory(scripted("numpy-pool", "256 MiB of arrays, half of them shared with the processes of a Pool", "python3", "/programs/numpy_pool.py"))),
		quick(scripted("redis", "two servers, one the replica of the other, their files and their clients", "python3", "/programs/redis_pair.py")),
		quick(asUser(scripted("postgresql", "a database, and clients in the middle of transactions", "python3", "/programs/postgres_clients.py"),
			postgresUser, postgresGroup)),
		quick(java("java", "threads, a heap that grows, a direct buffer, a lock, sockets; compiled methods", "-XX:+UseG1GC")),
		java("java-zgc", "the same with a collector that maps its heap several times", "-XX:+UseZGC"),
		scripted("asyncio", "servers with open connections, timers, a child", "python3", "/programs/aio.py"),
		scripted("threads-sqlite", "threads, queues, transactions under way in a WAL, temporary files", "python3", "/programs/threads_sqlite.py"),
		scripted("tini", "an init with a shell with the real program", "tini", "--", "sh", "-c", "python3 /programs/aio.py; echo it ended"),
		scripted("perl", "a parent and its children, an alarm, the script's own end", "sh", "-c", "cp /programs/server.pl /work && exec perl /work/server.pl"),
		of(more, scripted("node", "a server with its clients, a worker thread, a child, a watched folder", "node", "/programs/server.js")),
		of(more, scripted("ruby", "threads, fibers, sockets, a child", "ruby", "/programs/server.rb")),
		of(more, scripted("nginx", "two workers, connections that are kept, an answer under way", "python3", "/programs/nginx_memcached.py", "nginx")),
		of(more, scripted("memcached", "its items and its clients", "python3", "/programs/nginx_memcached.py", "memcached")),
		of(more, asUser(scripted("mariadb", "a database, and clients in the middle of transactions", "python3", "/programs/mariadb_clients.py"),
			mariadbUser, mariadbGroup)),
		of(more, scripted("rabbitmq", "a broker, its messages and its clients", "python3", "/programs/rabbitmq_clients.py")),
		scripted("bash-from-configmap", "a shell that has its script open in a ConfigMap", "bash", "/programs/bash.sh"),
		withChange(scripted("bash-from-changed-configmap", "the same when the ConfigMap was changed meanwhile", "bash", "/programs/bash.sh")),
	}
}

func quick(p Program) Program {
	p.Quick = true
	return p
}

// java is the one Java program, with a garbage collector.
func java(name, about, collector string) Program {
	return scripted(name, about, "java", collector, "-Xmx512m", "/programs/Fidelity.java")
}

// of has a program run in another image.
func of(image Image, p Program) Program {
	p.Image = image
	return p
}

// text returns a script.
func text(name string) string {
	text, err := scripts.Files.ReadFile(name)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// inline returns a script as a word of a command, for a shell that is not to have it open as a file. Kubernetes takes $$ for a single one.
func inline(name string) string { return strings.ReplaceAll(text(name), "$$", "$$$$") }

// scripted is a program that answers GET /check on port 8080. It finds all scripts in /programs, and emptyDirs at /work and /data.
func scripted(name, about string, command ...string) Program {
	return Program{
		Name: name, About: about, Image: common, Objects: []runtime.Object{scriptMap()}, Check: checks,
		Spec: func(image string) corev1.PodSpec {
			spec := onePod(image)
			spec.Containers[0].Command = command
			addVolume(&spec, "/programs", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
				LocalObjectReference: corev1.LocalObjectReference{Name: "programs"},
			}})
			addVolume(&spec, "/work", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
			addVolume(&spec, "/data", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
			return spec
		},
	}
}

// addVolume gives the first container a volume at a path.
func addVolume(spec *corev1.PodSpec, path string, source corev1.VolumeSource) {
	name := strings.ReplaceAll(path[1:], "/", "-")
	spec.Volumes = append(spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	spec.Containers[0].VolumeMounts = append(spec.Containers[0].VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path})
}

// scriptMap holds all scripts.
func scriptMap() *corev1.ConfigMap {
	data := map[string]string{}
	names, err := fs.Glob(scripts.Files, "*.*")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		data[name] = text(name)
	}
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "programs"}, Data: data}
}

// checks asks a program on port 8080 whether it is what it was.
func checks(ctx context.Context, pod *Pod) error {
	_, err := pod.Get(ctx, 8080, "/check")
	if err != nil {
		return fmt.Errorf("it says: %w", err)
	}
	return nil
}

// asUser has a program run as another user than root.
func asUser(p Program, user, group int64) Program {
	spec := p.Spec
	p.Spec = func(image string) corev1.PodSpec {
		made := spec(image)
		made.SecurityContext = &corev1.PodSecurityContext{RunAsUser: &user, RunAsGroup: &group, FSGroup: &group}
		return made
	}
	return p
}

// withMemory gives a program a larger /dev/shm than the 64 MiB of a container, as is done for machine learning: an emptyDir in memory.
func withMemory(p Program) Program {
	spec := p.Spec
	p.Spec = func(image string) corev1.PodSpec {
		made := spec(image)
		addVolume(&made, "/dev/shm", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}})
		return made
	}
	return p
}

// withChange changes the ConfigMap of the scripts while the program has one of them open, and waits until the pod sees the change.
func withChange(p Program) Program {
	began := false
	p.Seed = func(ctx context.Context, pod *Pod) error {
		change := func(kind, name, patch string) error {
			return pod.cluster.Client.CoreV1().RESTClient().Patch(types.MergePatchType).Namespace(pod.Namespace).Resource(kind).Name(name).
				Body([]byte(patch)).Do(ctx).Error()
		}
		if !began {
			if err := errors.Join(p.Check(ctx, pod), change("configmaps", "programs", `{"data":{"bash.sh":"# another script","more.sh":""}}`)); err != nil {
				return err
			}
			began = true
		}
		// kubelet looks at a pod's volumes when the pod changes, and else after a minute.
		if err := change("pods", pod.Name, fmt.Sprintf(`{"metadata":{"annotations":{"now":%q}}}`, time.Now())); err != nil {
			return err
		}
		_, err := pod.Shell(ctx, "app", "test -e /programs/more.sh")
		return err
	}
	return p
}
