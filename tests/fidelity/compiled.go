package main

import (
	corev1 "k8s.io/api/core/v1"
)

// compiledPrograms are static binaries of our own.
func compiledPrograms() []Program {
	return []Program{
		quick(binary("go-http", "a server and its clients with connections of HTTP/1 and HTTP/2, timers, 1,000 goroutines", goProgram("web"))),
		binary("c-threads", "POSIX threads that wait in every way, and OpenMP", cProgram("threads", "-fopenmp")),
	}
}

// binary is a program that answers GET /check on port 8080, with an emptyDir at /work.
func binary(name, about string, image Image) Program {
	return Program{
		Name: name, About: about, Image: image, Check: checks,
		Spec: func(image string) corev1.PodSpec {
			spec := onePod(image)
			addVolume(&spec, "/work", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
			return spec
		},
	}
}
