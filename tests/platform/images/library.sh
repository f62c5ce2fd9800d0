# What the builders of stand-in images share. Source it; it sets the shell strict.
set -euo pipefail

readonly no_documentation=(
  --dpkgopt='path-exclude=/usr/share/man/*'
  --dpkgopt='path-exclude=/usr/share/doc/*'
  --dpkgopt='path-exclude=/usr/share/locale/*'
)

say() { echo "images: $*" >&2; }

# This machine's own mirror of Debian, so that whatever was set up to reach it is used for the images too. Nothing on a
# machine that has none: then mmdebstrap takes its default.
debian_mirror() {
  apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/\?$' || true
}

# Memory is the fastest place for a tree of thousands of small files; it must be large enough, though.
scratch_directory() {
  local free
  free=$(df --output=avail -k /dev/shm 2>/dev/null | tail -1)
  if [ "${free:-0}" -gt 4000000 ]; then echo /dev/shm; else echo "${TMPDIR:-/var/tmp}"; fi
}

# debian_image TAG SUITE [mmdebstrap option]... < instructions of a Dockerfile
# The tree becomes a file first: a pipe into `docker import` would leave an empty image behind a failed mmdebstrap.
debian_image() {
  local tag=$1 suite=$2 scratch bare mirror source=()
  shift 2
  mirror=$(debian_mirror)
  if [ -n "$mirror" ]; then source=("deb $mirror $suite main"); fi
  scratch=$(mktemp --directory --tmpdir="$(scratch_directory)" scalr-image.XXXXXX)
  # shellcheck disable=SC2064 # the directory of now, not of then
  trap "rm -rf '$scratch'" EXIT
  # The dates of unstable's and of old snapshots' signatures are over; the signatures themselves are checked all the same.
  TMPDIR=$scratch mmdebstrap --quiet --mode=root --variant=minbase \
    --aptopt='APT::Install-Recommends "false"' \
    --aptopt='Acquire::Check-Valid-Until "false"' \
    --aptopt='Acquire::Check-Date "false"' \
    --dpkgopt=force-unsafe-io \
    "${no_documentation[@]}" \
    "$@" \
    --customize-hook='rm -f "$1"/var/cache/apt/*.bin' \
    "$suite" "$scratch/tree.tar" "${source[@]}" < /dev/null
  bare=scalr-bare:${scratch##*.}
  docker import "$scratch/tree.tar" "$bare" > /dev/null
  { echo "FROM $bare"
    echo 'LABEL scalr.stand-in=true'
    cat
  } > "$scratch/Dockerfile"
  rm "$scratch/tree.tar"
  docker build --quiet --tag "$tag" "$scratch" > /dev/null
  docker rmi "$bare" > /dev/null
  rm -rf "$scratch"
  trap - EXIT
}
