#!/usr/bin/python
# Copyright: Contributors to the scalr.backup collection
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# This is documentation only: the action plugin of the same name does the work, on the controller.

from __future__ import annotations

DOCUMENTATION = r"""
module: image_archive
short_description: Check the archive of an image before hosts load it
version_added: 0.6.0
description:
  - Reads an archive made by C(docker image save), on the controller and without extracting it, and verifies that it holds
    one image, with one name and the expected id. The id is a checksum of the image's configuration or manifest, which contain
    the checksums of the layers, so every byte is verified, regardless of who sent the archive.
  - Rewrites the archive from the verified parts and nothing else, compressed with gzip. A file beside it, ending with C(.ids),
    holds the ids by which a host's engine may know the image.
  - Fails if there is anything else in the archive, such as a second name, which C(docker image load) would apply as well, or if
    it is larger than 4 GiB.
  - The role P(scalr.backup.backup#role) uses it if C(backup_image_from) is set.
extends_documentation_fragment:
  - scalr.backup._attributes
attributes:
  check_mode:
    support: none
  diff_mode:
    support: none
options:
  src:
    description:
      - The archive on the controller, compressed with gzip or not.
    type: path
    required: true
  dest:
    description:
      - Where to write the archive for the hosts.
    type: path
    required: true
  image:
    description:
      - Name of the image, with its tag.
    type: str
    required: true
  id:
    description:
      - The image's id, V(sha256:) and 64 hexadecimal digits, from a place that you trust.
    type: str
    required: true
author:
  - Contributors to the scalr.backup collection (@scalr)
"""

EXAMPLES = r"""
- name: Check the archive from web1
  scalr.backup.image_archive:
    src: /tmp/image.tar.gz
    dest: /tmp/checked.tar.gz
    image: example:1
    id: sha256:2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae
"""

RETURN = r"""
ids:
  description:
    - The ids by which a host's engine may know the image, the checksums of its configuration and of its manifest. Which one
      depends on how the engine stores images.
  returned: success
  type: list
  elements: str
"""
