/* SPDX-License-Identifier: MIT */
/* Image folders: one walk at opening, sorted names in memory, files opened when read.
 *
 * An image is a path relative to the root and its size. The order of torchvision's
 * ImageFolder is kept because labels and sample numbers follow from it: it sorts the
 * folders below an identity by their whole path, so "a-b" comes before "a/b". */
#include "folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "atomic_file.h"
#include "hash.h"

/* Deeper nesting is taken for a loop of symbolic links. */
enum { MAX_DEPTH = 32, FINGERPRINT_FILES = 64, FINGERPRINT_BYTES = 4096 };

struct file {
    char *path;       /* below the root, malloc'd */
    size_t directory; /* bytes of path before the last '/' */
    uint64_t bytes;
};

struct ff_folder {
    char root[FF_PATH_MAX];
    struct file *files; /* (count), in sample order */
    int64_t count, capacity;
    int64_t *first; /* (classes + 1) i64 */
    int64_t classes;
    uint64_t bytes;
};

/* A list of names read from one directory, sorted by bytes. */
struct names {
    char **items;
    size_t count, capacity;
};

static void names_fini(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        free(names->items[i]);
    free(names->items);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_read(struct names *names, const char *path, struct ff_err *err)
{
    DIR *dir = opendir(path);
    if (!dir)
        return ff_err_errno(err, FF_EDATA, "cannot open folder %s", path);
    int rc = 0;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                rc = ff_err_errno(err, FF_EDATA, "cannot read folder %s", path);
            break;
        }
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        if (names->count == names->capacity) {
            size_t capacity = names->capacity ? 2 * names->capacity : 64;
            char **grown = realloc(names->items, capacity * sizeof *grown);
            if (!grown) {
                rc = ff_err_set(err, FF_ENOMEM, "out of memory for the names in %s",
                                path);
                break;
            }
            names->items = grown;
            names->capacity = capacity;
        }
        char *copy = strdup(entry->d_name);
        if (!copy) {
            rc = ff_err_set(err, FF_ENOMEM, "out of memory for the names in %s", path);
            break;
        }
        names->items[names->count++] = copy;
    }
    closedir(dir);
    if (names->count)
        qsort(names->items, names->count, sizeof *names->items, by_bytes);
    return rc;
}

enum ending { NO_PICTURE, DECODED, NOT_DECODED };

static enum ending ending_of(const char *name)
{
    static const char *const decoded[] = {".jpg", ".jpeg", ".png"};
    static const char *const others[] = {".ppm", ".bmp",  ".pgm",
                                         ".tif", ".tiff", ".webp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof decoded / sizeof *decoded; i++) {
        if (strcasecmp(dot, decoded[i]) == 0)
            return DECODED;
    }
    for (size_t i = 0; dot && i < sizeof others / sizeof *others; i++) {
        if (strcasecmp(dot, others[i]) == 0)
            return NOT_DECODED;
    }
    return NO_PICTURE;
}

static int add_file(struct ff_folder *folder, const char *path, uint64_t bytes,
                    struct ff_err *err)
{
    if (folder->count == folder->capacity) {
        int64_t capacity = folder->capacity ? 2 * folder->capacity : 1024;
        struct file *grown = realloc(folder->files, (size_t)capacity * sizeof *grown);
        if (!grown)
            return ff_err_set(err, FF_ENOMEM, "out of memory for the images of %s",
                              folder->root);
        folder->files = grown;
        folder->capacity = capacity;
    }
    char *copy = strdup(path);
    if (!copy)
        return ff_err_set(err, FF_ENOMEM, "out of memory for the images of %s",
                          folder->root);
    folder->files[folder->count++] =
        (struct file){copy, (size_t)(strrchr(copy, '/') - copy), bytes};
    folder->bytes += bytes;
    return 0;
}

/* Adds the images in root/<below> and the folders in it. */
static int walk(struct ff_folder *folder, const char *below, int depth,
                struct ff_err *err)
{
    char path[FF_PATH_MAX];
    struct names names = {0};
    int rc = ff_path(path, err, "%s/%s", folder->root, below);
    if (!rc && depth > MAX_DEPTH)
        rc =
            ff_err_set(err, FF_EDATA, "%s: more than %d folders deep", path, MAX_DEPTH);
    if (!rc)
        rc = names_read(&names, path, err);
    for (size_t i = 0; !rc && i < names.count; i++) {
        char child[FF_PATH_MAX];
        struct stat st;
        rc = ff_path(path, err, "%s/%s/%s", folder->root, below, names.items[i]);
        if (!rc)
            rc = ff_path(child, err, "%s/%s", below, names.items[i]);
        if (rc)
            break;
        enum ending ending = ending_of(names.items[i]);
        if (stat(path, &st) != 0) {
            if (ending != NO_PICTURE)
                rc = ff_err_errno(err, FF_EDATA, "cannot stat %s", path);
        } else if (S_ISDIR(st.st_mode)) {
            rc = walk(folder, child, depth + 1, err);
        } else if (ending == NOT_DECODED) {
            rc = ff_err_set(err, FF_EDATA,
                            "%s: %s images are not decoded; convert it to JPEG or PNG",
                            path, strrchr(names.items[i], '.'));
        } else if (ending == DECODED) {
            rc = add_file(folder, child, (uint64_t)st.st_size, err);
        }
    }
    names_fini(&names);
    return rc;
}

static int by_directory_then_name(const void *a, const void *b)
{
    const struct file *x = a, *y = b;
    size_t shorter = x->directory < y->directory ? x->directory : y->directory;
    int order = memcmp(x->path, y->path, shorter);
    if (order)
        return order;
    if (x->directory != y->directory)
        return x->directory < y->directory ? -1 : 1;
    return strcmp(x->path + x->directory, y->path + y->directory);
}

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
    struct names names = {0};
    struct ff_folder *folder = calloc(1, sizeof *folder);
    if (!folder)
        return ff_err_set(err, FF_ENOMEM, "out of memory to open %s", root);
    int rc = ff_path(folder->root, err, "%s", root);
    if (!rc)
        rc = names_read(&names, root, err);
    if (!rc && !(folder->first = calloc(names.count + 1, sizeof *folder->first)))
        rc = ff_err_set(err, FF_ENOMEM, "out of memory for the identities of %s", root);
    for (size_t i = 0; !rc && i < names.count; i++) {
        if (!is_folder(root, names.items[i]))
            continue;
        int64_t first = folder->count;
        rc = walk(folder, names.items[i], 1, err);
        if (!rc && folder->count == first)
            rc = ff_err_set(err, FF_EDATA, "%s/%s: an identity without images", root,
                            names.items[i]);
        if (rc)
            break;
        qsort(folder->files + first, (size_t)(folder->count - first),
              sizeof *folder->files, by_directory_then_name);
        folder->first[++folder->classes] = folder->count;
    }
    if (!rc && folder->classes == 0)
        rc = ff_err_set(err, FF_EUSAGE, "%s: no folder of an identity in it", root);
    names_fini(&names);
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
    for (int64_t i = 0; i < folder->count; i++)
        free(folder->files[i].path);
    free(folder->files);
    free(folder->first);
    free(folder);
}

int64_t ff_folder_count(const struct ff_folder *folder)
{
    return folder->count;
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

/* The first `limit` bytes of an image into the buffer; *size: how many there are. */
static int read_bytes(size_t *size, const struct ff_folder *folder, int64_t index,
                      size_t limit, struct ff_read_buffer *buffer, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    const struct file *file = &folder->files[index];
    int rc = ff_path(path, err, "%s/%s", folder->root, file->path);
    if (rc)
        return rc;
    size_t want = file->bytes < limit ? (size_t)file->bytes : limit;
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
        if (n <= 0) {
            rc = n < 0 ? ff_err_errno(err, FF_EDATA, "cannot read %s", path)
                       : ff_err_set(err, FF_EDATA, "%s: %zu bytes, %llu at the start",
                                    path, *size, (unsigned long long)file->bytes);
            break;
        }
        *size += (size_t)n;
    }
    close(fd);
    return rc;
}

int ff_folder_read(const uint8_t **bytes, size_t *size, int64_t *label,
                   const struct ff_folder *folder, int64_t index,
                   struct ff_read_buffer *buffer, struct ff_err *err)
{
    int rc = read_bytes(size, folder, index, SIZE_MAX, buffer, err);
    if (!rc && *size == 0)
        rc = ff_err_set(err, FF_EDATA, "%s/%s: the file is empty", folder->root,
                        folder->files[index].path);
    *bytes = buffer->data;
    *label = label_of(folder, index);
    return rc;
}

void ff_folder_describe(char *out, size_t capacity, const struct ff_folder *folder,
                        int64_t index)
{
    snprintf(out, capacity, "%s", folder->files[index].path);
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
    for (int64_t i = 0; i < folder->count; i++)
        fprintf(stream, "%llu %s\n", (unsigned long long)folder->files[i].bytes,
                folder->files[i].path);
    int64_t samples =
        folder->count < FINGERPRINT_FILES ? folder->count : FINGERPRINT_FILES;
    int rc = 0;
    for (int64_t i = 0; !rc && i < samples; i++) {
        size_t size = 0;
        int64_t index = samples > 1 ? i * (folder->count - 1) / (samples - 1) : 0;
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
