{{- define "type" -}}
{{- $type := . -}}
{{- if markdownShouldRenderType $type }}
## {{ $type.Name }}

{{ $type.Doc }}
{{ if $type.References }}
Used in:
{{- range $i, $used := $type.SortedReferences }}{{ if $i }},{{ end }} {{ markdownRenderTypeLink $used }}{{ end }}.
{{ end -}}
{{ if $type.Members }}
| field | type | what it says | default | may be |
| --- | --- | --- | --- | --- |
{{ range $type.Members -}}
{{ if ne .Name "metadata" -}}
| `{{ .Name }}` | {{ markdownRenderType .Type }} | {{ markdownRenderFieldDoc .Doc | trim | trimSuffix "<br />" | trim }} | {{ if ne .Name "status" }}{{ markdownRenderDefault .Default }}{{ end }} | {{ range $i, $rule := .Validation }}{{ if $i }}; {{ end }}{{ $rule | replace ": {}" "" | markdownRenderFieldDoc | trimSuffix "<br />" | trim }}{{ end }} |
{{ end -}}
{{ end -}}
{{ end -}}
{{ if $type.EnumValues }}
| value | what it says |
| --- | --- |
{{ range $type.EnumValues -}}
| `{{ .Name }}` | {{ markdownRenderFieldDoc .Doc | trim | trimSuffix "<br />" | trim }} |
{{ end -}}
{{ end -}}
{{ end -}}
{{- end -}}
