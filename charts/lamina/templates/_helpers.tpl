{{/* There is one installation in a cluster (the driver has one name), so objects have fixed names. */}}

{{- define "lamina.driver" -}}csi.lamina.storage{{- end }}
{{- define "lamina.runDir" -}}/run/lamina{{- end }}

{{/* What a component's pods are selected by. It never changes: selectors are immutable, and the engine outlives releases. */}}
{{- define "lamina.selector" -}}
app.kubernetes.io/name: lamina
app.kubernetes.io/component: {{ . }}
{{- end }}

{{/* Labels of an object of a component; give it (list . "component"). */}}
{{- define "lamina.labels" -}}
{{- $root := index . 0 -}}
{{ include "lamina.selector" (index . 1) }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version }}
{{- end }}

{{/* The image of one of our own components: what it says of its own, else the common one. Give it (list . "component"). */}}
{{- define "lamina.image" -}}
{{- $root := index . 0 -}}
{{- $image := mergeOverwrite (dict) $root.Values.image (index $root.Values (index . 1)).image -}}
image: {{ printf "%s:%s" $image.repository ($image.tag | default $root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $image.pullPolicy }}
{{- end }}

{{/* The image of somebody else's. Give it (list . "component"). */}}
{{- define "lamina.sidecarImage" -}}
{{- $root := index . 0 -}}
{{- $image := (index $root.Values (index . 1)).image -}}
image: {{ printf "%s:%s" $image.repository $image.tag | quote }}
imagePullPolicy: {{ $image.pullPolicy | default $root.Values.image.pullPolicy }}
{{- end }}

{{- define "lamina.pullSecrets" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Where a component's pods run. Give it that component's values. */}}
{{- define "lamina.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "lamina.unprivileged" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "lamina.unprivilegedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
fsGroup: 65532
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{/* The kubelet's probes; a start may take long where a pool has much to recover. */}}
{{- define "lamina.probes" -}}
startupProbe:
  httpGet: { path: /healthz, port: metrics, scheme: HTTPS }
  periodSeconds: 2
  timeoutSeconds: 5
  failureThreshold: 300
livenessProbe:
  httpGet: { path: /healthz, port: metrics, scheme: HTTPS }
  periodSeconds: 20
  timeoutSeconds: 10
  failureThreshold: 6
readinessProbe:
  httpGet: { path: /readyz, port: metrics, scheme: HTTPS }
  periodSeconds: 5
  timeoutSeconds: 5
{{- end }}

{{/*
The directories to mount for the pools, as a JSON list, the same in the node plugin and in the engine and at the paths that
they have on the node. A pool that is not to be made is mounted with the directory around it: so its absence can be seen
and told, and a disk that is mounted later appears.
*/}}
{{- define "lamina.poolMounts" -}}
{{- $paths := list -}}
{{- range .Values.pools }}
{{- $paths = append $paths (eq (toString .create) "false" | ternary (dir .path) .path) }}
{{- end }}
{{- $paths | uniq | toJson }}
{{- end }}

{{- define "lamina.poolVolumeMounts" -}}
{{- range $index, $path := include "lamina.poolMounts" . | fromJsonArray }}
- name: pool-{{ $index }}
  mountPath: {{ $path }}
  mountPropagation: HostToContainer
{{- end }}
{{- end }}

{{- define "lamina.poolVolumes" -}}
{{- range $index, $path := include "lamina.poolMounts" . | fromJsonArray }}
- name: pool-{{ $index }}
  hostPath: { path: {{ $path }}, type: DirectoryOrCreate }
{{- end }}
{{- end }}

{{- define "lamina.metricsListen" -}}
- --metrics-listen=[::]:{{ .Values.metrics.port }}
{{- end }}

{{- define "lamina.podName" -}}
- name: POD_NAME
  valueFrom: { fieldRef: { fieldPath: metadata.name } }
{{- end }}

{{/* Common to the sidecars of the controller. Their own defaults of 5 requests a second are meant for slow storage. */}}
{{- define "lamina.sidecarArgs" -}}
- --csi-address=/csi/csi.sock
- --leader-election
# The next one need not wait until the lease has expired.
- --feature-gates=ReleaseLeaderElectionOnExit=true
# An API server that is away for a minute is no reason to end, and to be restarted later and later.
- --leader-election-lease-duration=137s
- --leader-election-renew-deadline=107s
- --leader-election-retry-period=26s
- --retry-interval-max=1m
- --kube-api-qps=50
- --kube-api-burst=100
{{- end }}
