{{- define "gvDetails" -}}
{{- $gv := . -}}
Group and version: `{{ $gv.GroupVersionString }}`. Its kinds:
{{- range $i, $kind := $gv.SortedKinds }}{{ if $i }},{{ end }} {{ $gv.TypeForKind $kind | markdownRenderTypeLink }}{{ end }}.
{{ range $gv.SortedKinds }}
{{- template "type" ($gv.TypeForKind .) -}}
{{ end }}
{{- range $gv.SortedTypes -}}
{{ if not .GVK }}{{ template "type" . }}{{ end -}}
{{ end -}}
{{- end -}}
