{{/* The labels of deploy/base, and Helm's own. Call with (list . NAME). */}}
{{- define "baremetal-ccm.labels" -}}
{{- $ := index . 0 -}}
app.kubernetes.io/name: {{ index . 1 }}
app.kubernetes.io/part-of: baremetal-ccm
app.kubernetes.io/instance: {{ $.Release.Name }}
app.kubernetes.io/managed-by: {{ $.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $.Chart.Name $.Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* An image by digest or tag. Call with (list . IMAGE). */}}
{{- define "baremetal-ccm.image" -}}
{{- $common := (index . 0).Values.image -}}
{{- $image := index . 1 -}}
{{- with $common.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{- $image.repository -}}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $common.tag }}{{ end -}}
{{- end -}}

{{- define "baremetal-ccm.pullSecrets" -}}
{{- with .Values.image.pullSecrets -}}
imagePullSecrets:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{/* Where the CCM may run, for its Deployment and for the Job that cleans up. */}}
{{- define "baremetal-ccm.scheduling" -}}
nodeSelector:
  {{- merge (dict "kubernetes.io/os" "linux") .Values.ccm.nodeSelector | toYaml | nindent 2 }}
tolerations:
- key: node-role.kubernetes.io/control-plane
  operator: Exists
  effect: NoSchedule
- key: node.cloudprovider.kubernetes.io/uninitialized
  operator: Exists
  effect: NoSchedule
- key: node.kubernetes.io/not-ready
  operator: Exists
  effect: NoSchedule
- key: node.kubernetes.io/network-unavailable
  operator: Exists
  effect: NoSchedule
# A replica on a lost node is replaced sooner than after the usual five minutes.
- key: node.kubernetes.io/not-ready
  operator: Exists
  effect: NoExecute
  tolerationSeconds: 60
- key: node.kubernetes.io/unreachable
  operator: Exists
  effect: NoExecute
  tolerationSeconds: 60
{{- with .Values.ccm.tolerations }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The CCM's environment, for its Deployment and for the Job that cleans up. */}}
{{- define "baremetal-ccm.env" -}}
- name: POD_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: GOMEMLIMIT
  value: {{ .Values.ccm.goMemLimit }}
- name: HTTP2_READ_IDLE_TIMEOUT_SECONDS
  value: "5"
- name: HTTP2_PING_TIMEOUT_SECONDS
  value: "3"
{{- range $name, $value := .Values.ccm.env }}
- name: {{ $name }}
  value: {{ $value | quote }}
{{- end }}
{{- end -}}

{{/* Annotations of a hook that creates an object which the CCM fills. Such an object is no part of the
release: an upgrade, a rollback or --force never writes it, and an uninstall leaves it. It is
created if it is missing; hook-failed keeps Helm from deleting it before. */}}
{{- define "baremetal-ccm.filled" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-delete-policy: hook-failed
helm.sh/resource-policy: keep
{{- end -}}

{{/* Annotations of the hooks for the uninstall. Call with the weight. */}}
{{- define "baremetal-ccm.cleanup" -}}
helm.sh/hook: pre-delete
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
