/* SPDX-License-Identifier: MIT */
/* Image folders: sorted names in memory (folder_scan.c), files opened when read. */
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_priv.h"
#include "hash.h"

enum { FINGERPRINT_FILES = 64, FINGERPRINT_BYTES = 4096 };

static bool is_folder(const char *root, const char *name)
{
    char path[FF_PATH_MAX];
    struct stat st;
    return ff_path(path, NULL, "%s/%s", root, name) == 0 && stat(path, &st) == 0 &&
           S_ISDIR(st.st_mode);
}

bool ff_folder_is_one(const char *root)
{
    DIR *dir = opendir(root);
    bool found = false;
    for (const struct dirent *entry; dir && !found && (entry = readdir(dir));)
        found = strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
                is_folder(root, entry->d_name);
    if (dir)
        closedir(dir);
    return found;
}

int ff_folder_open(struct ff_folder **out, const char *root, struct ff_err *err)
{
    struct ff_folder *folder = calloc(1, sizeof *folder);
    if (!folder)
        return ff_err_set(err, FF_ENOMEM, "out of memory to open %s", root);
    int rc = ff_path(folder->root, err, "%s", root);
    if (!rc)
        rc = ff_folder_scan(folder, err);
    if (rc) {
        ff_folder_close(folder);
        return rc;
    }
    *out = folder;
    return 0;
}

void ff_folder_close(struct ff_folder *folder)
{
    if (!folder)
        return;
    ff_folder_table_fini(&folder->table);
    free(folder->manifest_text);
    free(folder->first);
    free(folder);
}

int64_t ff_folder_count(const struct ff_folder *folder)
{
    return folder->table.file_count;
}

int64_t ff_folder_classes(const struct ff_folder *folder)
{
    return folder->classes;
}

uint64_t ff_folder_bytes(const struct ff_folder *folder)
{
    return folder->bytes;
}

int64_t ff_folder_first(const struct ff_folder *folder, int64_t label)
{
    return folder->first[label];
}

/* The identity whose range of images holds `index`. */
static int64_t label_of(const struct ff_folder *folder, int64_t index)
{
    int64_t low = 0, high = folder->classes - 1;
    while (low < high) {
        int64_t middle = low + (high - low + 1) / 2;
        if (folder->first[middle] <= index)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static int path_of(char path[FF_PATH_MAX], const struct ff_folder *folder,
                   int64_t index, struct ff_err *err)
{
    const struct ff_folder_file *file = &folder->table.files[index];
    return ff_path(path, err, "%s/%s/%s", folder->root, file->directory, file->name);
}

/* The first `limit` bytes of an image into the buffer; *size: how many there are. */
static int read_bytes(size_t *size, const struct ff_folder *folder, int64_t index,
                      size_t limit, struct ff_read_buffer *buffer, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    const struct ff_folder_file *file = &folder->table.files[index];
    int rc = path_of(path, folder, index, err);
    if (rc)
        return rc;
    /* One byte more than there should be shows a file that has grown. */
    size_t want = file->bytes < limit ? (size_t)file->bytes + 1 : limit;
    if (want > buffer->capacity) {
        uint8_t *grown = realloc(buffer->data, want);
        if (!grown)
            return ff_err_set(err, FF_ENOMEM, "out of memory for %s", path);
        buffer->data = grown;
        buffer->capacity = want;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return ff_err_errno(err, FF_EDATA, "cannot open %s", path);
    for (*size = 0; *size < want;) {
        ssize_t n = read(fd, buffer->data + *size, want - *size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            rc = ff_err_errno(err, FF_EDATA, "cannot read %s", path);
        if (n <= 0)
            break;
        *size += (size_t)n;
    }
    if (!rc && file->bytes < limit && *size != file->bytes)
        rc = ff_err_set(err, FF_EDATA,
                        "%s: %s%zu bytes, %llu when the folder was listed (ff-data "
                        "check lists it anew)",
                        path, *size > file->bytes ? "at least " : "", *size,
                        (unsigned long long)file->bytes);
    close(fd);
    return rc;
}

int ff_folder_read(const uint8_t **bytes, size_t *size, int64_t *label,
                   const struct ff_folder *folder, int64_t index,
                   struct ff_read_buffer *buffer, struct ff_err *err)
{
    int rc = read_bytes(size, folder, index, SIZE_MAX, buffer, err);
    if (!rc && *size == 0)
        rc = ff_err_set(err, FF_EDATA, "%s/%s/%s: the file is empty", folder->root,
                        folder->table.files[index].directory,
                        folder->table.files[index].name);
    *bytes = buffer->data;
    *label = label_of(folder, index);
    return rc;
}

void ff_folder_describe(char *out, size_t capacity, const struct ff_folder *folder,
                        int64_t index)
{
    const struct ff_folder_file *file = &folder->table.files[index];
    snprintf(out, capacity, "%s/%s", file->directory, file->name);
}

int ff_folder_fingerprint(char out[65], const struct ff_folder *folder,
                          struct ff_err *err)
{
    char *text = NULL, hash[FF_SHA256_HEX];
    size_t text_bytes = 0;
    struct ff_read_buffer buffer = {0};
    FILE *stream = open_memstream(&text, &text_bytes);
    if (!stream)
        return ff_err_set(err, FF_ENOMEM, "out of memory for the fingerprint of %s",
                          folder->root);
    fprintf(stream, "folder\n");
    for (int64_t i = 0; i < folder->table.file_count; i++)
        fprintf(stream, "%llu %s/%s\n",
                (unsigned long long)folder->table.files[i].bytes,
                folder->table.files[i].directory, folder->table.files[i].name);
    int64_t samples = folder->table.file_count < FINGERPRINT_FILES
                          ? folder->table.file_count
                          : FINGERPRINT_FILES;
    int rc = 0;
    for (int64_t i = 0; !rc && i < samples; i++) {
        size_t size = 0;
        int64_t index =
            samples > 1 ? i * (folder->table.file_count - 1) / (samples - 1) : 0;
        rc = read_bytes(&size, folder, index, FINGERPRINT_BYTES, &buffer, err);
        if (!rc) {
            ff_sha256(hash, buffer.data ? (const void *)buffer.data : "", size);
            fprintf(stream, "%s\n", hash);
        }
    }
    if (fclose(stream) != 0 && !rc)
        rc = ff_err_set(err, FF_ENOMEM, "out of memory for the fingerprint of %s",
                        folder->root);
    if (!rc)
        ff_sha256(out, text, text_bytes);
    free(text);
    free(buffer.data);
    return rc;
}

int ff_folder_stamp(char out[65], const struct ff_folder *folder, struct ff_err *err)
{
    char *text = NULL;
    size_t text_bytes = 0;
    FILE *stream = open_memstream(&text, &text_bytes);
    for (int64_t i = 0; stream && i < folder->table.file_count; i++) {
        const struct ff_folder_file *file = &folder->table.files[i];
        fprintf(stream, "%llu %lld %s/%s\n", (unsigned long long)file->bytes,
                (long long)file->mtime_ns, file->directory, file->name);
    }
    bool good = stream && fclose(stream) == 0;
    if (good)
        ff_sha256(out, text, text_bytes);
    free(text);
    return good ? 0
                : ff_err_set(err, FF_ENOMEM, "out of memory for the files of %s",
                             folder->root);
}

int64_t ff_folder_scanned(const struct ff_folder *folder)
{
    return folder->scanned;
}
