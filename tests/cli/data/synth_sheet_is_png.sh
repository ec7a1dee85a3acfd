# SPDX-License-Identifier: MIT
ff-data synth --sheet only.jpg --identities 2 --images 2
rc=$?
[ ! -e only.jpg ] && exit $rc
