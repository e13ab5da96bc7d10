{{- define "regent.scope" -}}
{{ .Values.scope | default .Release.Name }}
{{- end }}

{{- define "regent.secret" -}}
{{ .Values.secret.existing | default .Release.Name }}
{{- end }}

{{- define "regent.serviceAccount" -}}
{{ .Values.serviceAccount.name | default .Release.Name }}
{{- end }}

{{/* What the agents look for, on pods and on their own objects: it must never change. */}}
{{- define "regent.selector" -}}
app.kubernetes.io/name: regent
cluster-name: {{ include "regent.scope" . }}
{{- end }}

{{- define "regent.labels" -}}
{{ include "regent.selector" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* Only what the environment has no variable for. */}}
{{- define "regent.configuration" -}}
bootstrap:
  dcs: {{- toYaml .Values.dynamic | nindent 4 }}
  initdb: {{- toYaml .Values.initdb | nindent 4 }}
postgresql:
  parameters: {{- toYaml .Values.parameters | nindent 4 }}
  pg_hba: {{- toYaml .Values.hba | nindent 4 }}
{{- with .Values.tags }}
tags: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}
