{{- /* transparent-checkpoint.labels are those of all objects, beside those that the manifests give them. */ -}}
{{- define "transparent-checkpoint.labels" -}}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | replace "+" "_" | trunc 63 | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* transparent-checkpoint.image is the name of an image; the argument is a list of the root and an image of the values. */ -}}
{{- define "transparent-checkpoint.image" -}}
{{- $root := index . 0 }}
{{- $image := index . 1 }}
{{- $image.repository }}
{{- if $image.digest }}{{ printf "@%s" $image.digest }}{{ else }}{{ printf ":%s" (default $root.Chart.AppVersion $image.tag) }}{{ end }}
{{- end }}

{{- /* transparent-checkpoint.agentArgs are the flags of the agent that are not always there, as a list. */ -}}
{{- define "transparent-checkpoint.agentArgs" -}}
{{- $args := list }}
{{- with .Values.agent.criSocket }}{{ $args = append $args (printf "--cri-socket=%s" .) }}{{ end }}
{{- with .Values.agent.home }}{{ $args = append $args (printf "--home=%s" .) }}{{ end }}
{{- concat $args .Values.agent.extraArgs | toYaml }}
{{- end }}

{{- /* transparent-checkpoint.uninstallArgs are the flags of the uninstaller beside the patience, as a list. Objects of the release are deleted by Helm. */ -}}
{{- define "transparent-checkpoint.uninstallArgs" -}}
{{- $args := list "--keep-objects" }}
{{- if .Values.uninstall.keepCRDs }}{{ $args = append $args "--keep-crds" }}{{ end }}
{{- if .Values.uninstall.leaveStates }}{{ $args = append $args "--leave-states" }}{{ end }}
{{- toYaml $args }}
{{- end }}

{{- /* transparent-checkpoint.operator is the data of the ConfigMap checkpoint-operator: what is set, and nothing else. */ -}}
{{- define "transparent-checkpoint.operator" -}}
{{- $data := dict }}
{{- with .Values.operator }}
{{- if ne (toString .paused) "" }}{{ $_ := set $data "paused" (toString .paused) }}{{ end }}
{{- with .namespaces }}{{ $_ := set $data "namespaces" (join "," .) }}{{ end }}
{{- with .namespaceSelector }}{{ $_ := set $data "namespaceSelector" . }}{{ end }}
{{- with .namespaceQuota }}{{ $_ := set $data "namespaceQuota" . }}{{ end }}
{{- end }}
{{- toYaml $data }}
{{- end }}
