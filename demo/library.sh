# Shared by demo/run and demo/clean.
set -euo pipefail
checkout=$(readlink -f "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/..")
PATH="$checkout/.venv/bin:$PATH"
cd "$checkout/playbooks"

readonly database=scalr-demo-db agent=scalr-backup

fail() { echo "demo: $*" >&2; exit 1; }

# The directory of an agent that is already on this machine, running or not; otherwise the role's default.
agents_directory() {
  local source
  source=$(docker inspect "$agent" 2> /dev/null --format \
    '{{range .Mounts}}{{if eq .Destination "/etc/scalr-backup"}}{{.Source}}{{end}}{{end}}') || true
  [ -n "$source" ] && dirname "$source" || echo /opt/scalr/services/backup
}

# The demo only touches an agent that backs up to this machine's own volume.
require_local_repository() {
  local config repository
  config=$(agents_directory)/config/config.json
  [ -f "$config" ] || return 0
  repository=$(python3 -c 'import json, sys; print(json.load(open(sys.argv[1]))["repository"])' "$config")
  [ "$repository" = /repository ] ||
    fail "the agent on this machine backs up to $repository, so it does not belong to the demo: it is left unchanged."
}

# The role names its images by digest. If tools/platform found no registry, it built stand-ins under the same names, which have
# no digest.
stand_ins() {
  local digests
  digests=$(docker image inspect --format '{{len .RepoDigests}}' debian:trixie-slim 2> /dev/null) || return 0
  [ "$digests" != 0 ] || printf '%s\n' -e backup_base_image=debian:trixie-slim -e backup_restic_image=restic/restic:0.19.1
}
