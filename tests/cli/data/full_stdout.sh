# SPDX-License-Identifier: MIT
# Output that is lost is a failure of each of the four programs; another one stays what it is.
for words in "ff-data --help" "ff-train params" "ff-eval pairs --help" "ff-grid --version" "ff-grid run --help"; do
    $words > /dev/full
    echo "$words: $?"
done
ff-data info nowhere > /dev/full
echo "info: $?"
