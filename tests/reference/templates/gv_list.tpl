{{- define "gvList" -}}
# Reference of the API

Written by `make generate` from the types in `apis/`; what is wrong here is mended there. How the objects are used is in the [user guide](user-guide.md) and
in [operations](operations.md). `kubectl explain checkpoint.spec` says the same.
{{ range . }}
{{ template "gvDetails" . }}
{{ end }}
{{- end -}}
