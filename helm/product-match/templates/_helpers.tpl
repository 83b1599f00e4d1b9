{{/* Names leave room for the longest suffix, so that every object's stays within 63 letters. */}}
{{- define "pm.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "pm.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "pm.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "pm.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: product-match
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "pm.selector" -}}
app.kubernetes.io/name: {{ include "pm.name" . }}
app.kubernetes.io/instance: {{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{- define "pm.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "pm.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- required "serviceAccount.name: name an existing service account, or set serviceAccount.create=true" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* An image of the project by its kind: the server's profile, the gateway, or the page. */}}
{{- define "pm.image" -}}
{{- $image := .image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ default (printf "%s-%s" .context.Chart.AppVersion .kind) $image.tag }}
{{- end -}}
{{- end -}}

{{- define "pm.pullSecrets" -}}
{{- with .Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The Secret with the database's address. */}}
{{- define "pm.databaseSecret" -}}
{{- if .Values.mongodb.embedded.enabled -}}
{{- default (printf "%s-mongodb" (include "pm.fullname" .)) .Values.mongodb.embedded.existingSecret -}}
{{- else -}}
{{- required "mongodb.existingSecret: name the Secret that holds the URI of a MongoDB replica set (kubectl create secret generic product-match-mongodb --from-literal=uri='mongodb://...'), or set mongodb.embedded.enabled=true for a single-node database of the chart's own, for trials" .Values.mongodb.existingSecret -}}
{{- end -}}
{{- end -}}

{{- define "pm.keysSecret" -}}
{{- required "gateway.apiKeys.existingSecret: name the Secret with the file of API keys (docs/kubernetes.md says how to make it), or set gateway.enabled=false to expose Triton itself, which has no authentication" .Values.gateway.apiKeys.existingSecret -}}
{{- end -}}

{{/* The key that a pod of the release sends to the gateway. */}}
{{- define "pm.clientKey" -}}
{{- if .context.Values.gateway.enabled -}}
env:
  - name: PRODUCT_MATCH_API_KEY
    valueFrom:
      secretKeyRef:
        name: {{ include "pm.keysSecret" .context }}
        key: {{ .key }}
{{- end -}}
{{- end -}}

{{- define "pm.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end -}}

{{- define "pm.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .user }}
runAsGroup: {{ .user }}
fsGroup: {{ .user }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end -}}

{{- define "pm.httpPort" -}}
{{- ternary "gateway-http" "http" .Values.gateway.enabled -}}
{{- end -}}

{{- define "pm.grpcPort" -}}
{{- ternary "gateway-grpc" "grpc" .Values.gateway.enabled -}}
{{- end -}}

{{/* Where pods of the release reach it. */}}
{{- define "pm.url" -}}
{{- $secure := and .Values.gateway.enabled .Values.gateway.tls.existingSecret -}}
{{ ternary "https" "http" (not (empty $secure)) }}://{{ include "pm.fullname" . }}:{{ .Values.service.httpPort }}
{{- end -}}

{{/* The port of the collector's URL. */}}
{{- define "pm.tracePort" -}}
{{- $url := urlParse .Values.tracing.url -}}
{{- regexFind "[0-9]+$" (regexFind ":[0-9]+$" $url.host) | default (ternary "443" "80" (eq $url.scheme "https")) -}}
{{- end -}}

{{/* A probe: its timing, and the command that asks for a real match and gives up in time to say so. */}}
{{- define "pm.probe" -}}
{{- $seconds := printf "--timeout=%d" (sub (int .timing.timeoutSeconds) 1) -}}
exec:
  command: {{ concat .command (list (printf "--level=%s" .level) $seconds) | toJson }}
{{ toYaml .timing }}
{{- end -}}

{{/* Of the server, and of the building of its engines, which takes the same GPU. */}}
{{- define "pm.serverResources" -}}
{{- $gpu := ternary (dict .Values.gpu.resourceName .Values.gpu.count) dict (eq .Values.profile "gpu") -}}
requests: {{- merge (dict) $gpu .Values.resources.requests | toYaml | nindent 2 }}
limits: {{- merge (dict) $gpu .Values.resources.limits | toYaml | nindent 2 }}
{{- end -}}

{{/* The volume with compiled engines; they lie there by graphs, TensorRT version and GPU. */}}
{{- define "pm.engineCache" -}}
{{- if eq .type "persistentVolumeClaim" -}}
persistentVolumeClaim:
  claimName: {{ required "engines.cache.claimName: name the PersistentVolumeClaim that keeps the engines (ReadWriteMany where servers run on several nodes), or set engines.cache.type to hostPath or emptyDir" .claimName }}
{{- else if eq .type "hostPath" -}}
hostPath:
  path: {{ required "engines.cache.hostPath: name the node's folder that keeps the engines, writable by user 10001" .hostPath }}
  type: Directory
{{- else -}}
emptyDir: { sizeLimit: {{ .sizeLimit }} }
{{- end -}}
{{- end -}}

{{/* A setting as an environment variable has it. Helm reads numbers as floats, and would write large ones with an exponent. */}}
{{- define "pm.text" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ toString . }}{{ end }}
{{- end }}

{{/* A quantity of bytes as whole MiB, rounded down. */}}
{{- define "pm.mebibytes" -}}
{{- $factors := dict "" 1 "k" 1e3 "M" 1e6 "G" 1e9 "T" 1e12 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $text := include "pm.text" . -}}
{{- $unit := regexFind "[kKMGTi]*$" $text -}}
{{- divf (mulf (trimSuffix $unit $text | float64) (get $factors $unit)) 1048576 | floor | int64 -}}
{{- end -}}

{{/* Something, where the vectors lie in Milvus. */}}
{{- define "pm.milvus" -}}
{{- if eq .Values.index.engine "milvus" }}true{{ end -}}
{{- end -}}

{{/* MiB of all vectors of the catalogue. */}}
{{- define "pm.vectors" -}}
{{- divf (mulf .Values.catalogue.pictures .Values.catalogue.bytesPerPicture) 1048576 | ceil | int64 -}}
{{- end -}}

{{/* MiB of the volume for snapshots: two of them while one is written, a tenth more for what is no vector, and 256. */}}
{{- define "pm.snapshots" -}}
{{- $least := add 256 (mulf 2.2 (include "pm.vectors" . | float64) | ceil | int64) -}}
{{- $given := $least -}}
{{- with .Values.snapshots -}}
{{- $given = include "pm.mebibytes" . | int64 -}}
{{- end -}}
{{- if lt (int64 $given) (int64 $least) -}}
{{- fail (printf "snapshots is %s; two snapshots of catalogue.pictures=%d take %dMi: raise it, or leave it empty" .Values.snapshots (int64 .Values.catalogue.pictures) $least) -}}
{{- end -}}
{{- $given -}}
{{- end -}}

{{/* Refuses a memory limit or a /tmp that is too small for what the settings let the server take. */}}
{{- define "pm.checkSizes" -}}
{{- $settings := .Values.settings -}}
{{- $decode := divf ($settings.PRODUCT_MATCH_DECODE_BYTES | default 536870912 | float64) 1048576 | ceil | int64 -}}
{{- /* For each picture, or in Milvus's place a cache for each of two indexes. */ -}}
{{- $vectors := include "pm.vectors" . | int64 -}}
{{- $holds := printf "catalogue.pictures=%d" (int64 .Values.catalogue.pictures) -}}
{{- $smaller := "catalogue.pictures" -}}
{{- if include "pm.milvus" . -}}
{{- $smaller = "settings.PRODUCT_MATCH_MILVUS_CACHE_BYTES" -}}
{{- $holds = "caches of vectors" -}}
{{- $vectors = divf ($settings.PRODUCT_MATCH_MILVUS_CACHE_BYTES | default 536870912 | float64) 1048576 | ceil | int64 -}}
{{- end -}}
{{- $least := add 1280 (mul 5 $decode) (mul 2 $vectors) -}}
{{- with .Values.resources.limits.memory -}}
{{- if lt (include "pm.mebibytes" . | int64) (int64 $least) -}}
{{- fail (printf "resources.limits.memory is %v; %s and decoding take up to %dMi: raise it, or lower %s or settings.PRODUCT_MATCH_DECODE_BYTES" . $holds $least $smaller) -}}
{{- end -}}
{{- end -}}
{{- $queue := divf ($settings.PRODUCT_MATCH_LOG_QUEUE_BYTES | default 134217728 | float64) 1048576 | ceil | int64 -}}
{{- $scratch := add 256 (mul 4 $queue) -}}
{{- if lt (include "pm.mebibytes" .Values.scratch | int64) (int64 $scratch) -}}
{{- fail (printf "scratch is %s; the log queues of four processes take up to %dMi: raise it, or lower settings.PRODUCT_MATCH_LOG_QUEUE_BYTES" .Values.scratch $scratch) -}}
{{- end -}}
{{- end -}}

{{/* The gateway's folder: the largest body of every request that may be under way, and 64 MiB. */}}
{{- define "pm.gatewayScratch" -}}
{{- $settings := .Values.gateway.settings -}}
{{- $requests := $settings.GATEWAY_REQUESTS | default 128 | int -}}
{{- $limit := .Values.gateway.resources.limits.memory -}}
{{- $least := add 64 $requests -}}
{{- if and $limit (lt (include "pm.mebibytes" $limit | int) (int $least)) -}}
{{- fail (printf "gateway.resources.limits.memory is %v; %d requests at once take up to %dMi: raise it, or lower gateway.settings.GATEWAY_REQUESTS" $limit $requests $least) -}}
{{- end -}}
{{- add 64 (mul $requests ($settings.GATEWAY_MAX_BODY_MB | default 32 | int)) -}}Mi
{{- end -}}

{{/* Refuses a page without what it needs, or with too little memory for its photos and files. */}}
{{- define "pm.checkDemo" -}}
{{- if not .Values.gateway.enabled -}}
{{- fail "demo.enabled needs the gateway, whose keys and limits stand between visitors and Triton: set gateway.enabled=true" -}}
{{- end -}}
{{- $least := add 1024 (include "pm.mebibytes" .Values.demo.scratch | int64) -}}
{{- with .Values.demo.resources.limits.memory -}}
{{- if lt (include "pm.mebibytes" . | int64) (int64 $least) -}}
{{- fail (printf "demo.resources.limits.memory is %v; the page and its files take up to %dMi: raise it, or lower demo.scratch" . $least) -}}
{{- end -}}
{{- end -}}
{{- end -}}
