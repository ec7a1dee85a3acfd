/* SPDX-License-Identifier: MIT */
/* The walk over an image folder, and the manifest that spares the next one.
 *
 * Listing a folder and asking for the size of each file costs minutes where files are
 * counted in millions or lie behind a network. DIR/.ff-manifest keeps the result:
 *   ff-manifest/1
 *   d MTIME_NS PATH           a folder below the root, an identity's own ones together
 *   s NAME                    a folder in it
 *   f BYTES MTIME_NS NAME     an image in it
 *   end SHA256                of all lines before
 * A folder whose mtime is still the noted one has the same names in it and is not read
 * again. A folder that changed within its file system's clock tick of being read is
 * noted with mtime 0, which never matches. The root has no line: writing the manifest
 * changes its mtime, so its names are read each time. A manifest is a cache: one that
 * is damaged, or cannot be written, is passed over. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "folder_priv.h"
#include "hash.h"
#include "log.h"

#define MANIFEST_SCHEMA "ff-manifest/1"

enum {
    MAX_DEPTH = 32, /* deeper nesting is taken for a loop of symbolic links */
    BLOCK_BYTES = 1 << 16
};

#define NS_PER_S INT64_C(1000000000)
#define TICK_NS INT64_C(20000000)     /* no kernel's clock for mtimes is coarser */
#define COARSE_TICK_NS (2 * NS_PER_S) /* of file systems that keep whole seconds */

/* ---- tables ---- */

struct ff_folder_block {
    struct ff_folder_block *next;
    size_t used, capacity;
    char text[];
};

void ff_folder_table_fini(struct ff_folder_table *table)
{
    for (struct ff_folder_block *block = table->blocks, *next; block; block = next) {
        next = block->next;
        free(block);
    }
    free(table->directories);
    free(table->files);
    free(table->subs);
    free(table->text);
    *table = (struct ff_folder_table){0};
}

static int no_memory(struct ff_err *err)
{
    return ff_err_set(err, FF_ENOMEM, "out of memory for the names of an image folder");
}

/* Makes room for one more item of an array. */
static int grow(void *array, int64_t count, int64_t *capacity, size_t item_bytes,
                struct ff_err *err)
{
    if (count < *capacity)
        return 0;
    int64_t wanted = *capacity ? 2 * *capacity : 1024;
    void **items = array;
    void *grown = realloc(*items, (size_t)wanted * item_bytes);
    if (!grown)
        return no_memory(err);
    *items = grown;
    *capacity = wanted;
    return 0;
}

/* A copy of text that lives as long as the table; NULL without memory. */
static const char *keep(struct ff_folder_table *table, const char *text)
{
    size_t bytes = strlen(text) + 1;
    struct ff_folder_block *block = table->blocks;
    if (!block || block->capacity - block->used < bytes) {
        size_t capacity = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        block = malloc(sizeof *block + capacity);
        if (!block)
            return NULL;
        *block = (struct ff_folder_block){table->blocks, 0, capacity};
        table->blocks = block;
    }
    char *copy = memcpy(block->text + block->used, text, bytes);
    block->used += bytes;
    return copy;
}

static int add_directory(struct ff_folder_table *table, const char *path,
                         int64_t mtime_ns, struct ff_err *err)
{
    void *array = &table->directories;
    int rc = grow(array, table->directory_count, &table->directory_capacity,
                  sizeof *table->directories, err);
    if (!rc)
        table->directories[table->directory_count++] =
            (struct ff_folder_directory){.path = path,
                                         .mtime_ns = mtime_ns,
                                         .first_sub = table->sub_count,
                                         .first_file = table->file_count};
    return rc;
}

static int add_sub(struct ff_folder_table *table, const char *name, struct ff_err *err)
{
    void *array = &table->subs;
    int rc =
        grow(array, table->sub_count, &table->sub_capacity, sizeof *table->subs, err);
    if (!rc)
        table->subs[table->sub_count++] = name;
    return rc;
}

static int add_file(struct ff_folder_table *table, struct ff_folder_file file,
                    struct ff_err *err)
{
    void *array = &table->files;
    int rc = grow(array, table->file_count, &table->file_capacity, sizeof *table->files,
                  err);
    if (!rc)
        table->files[table->file_count++] = file;
    return rc;
}

static int by_path(const void *a, const void *b)
{
    const struct ff_folder_directory *x = a, *y = b;
    return strcmp(x->path, y->path);
}

/* torchvision's ImageFolder sorts the folders below an identity by their whole path, so
 * "a-b" comes before "a/b". */
static int by_directory_then_name(const void *a, const void *b)
{
    const struct ff_folder_file *x = a, *y = b;
    int order = strcmp(x->directory, y->directory);
    return order ? order : strcmp(x->name, y->name);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* ---- the manifest ---- */

static bool is_dot(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* "<number> " at *p; moves behind it. */
static bool take_number(int64_t *value, char **p)
{
    char *stop;
    errno = 0;
    *value = strtoll(*p, &stop, 10);
    if (stop == *p || *stop != ' ' || errno || *value < 0)
        return false;
    *p = stop + 1;
    return true;
}

static bool parse_line(struct ff_folder_table *table, char *line, bool *no_room)
{
    struct ff_folder_directory *directory =
        table->directory_count ? &table->directories[table->directory_count - 1] : NULL;
    char *p = line + 2;
    int64_t bytes, mtime_ns;
    int rc;
    if (!line[0] || line[1] != ' ' || (line[0] != 'd' && !directory))
        return false;
    switch (line[0]) {
    case 'd':
        if (!take_number(&mtime_ns, &p))
            return false;
        rc = add_directory(table, p, mtime_ns, NULL);
        break;
    case 's':
        if (is_dot(p))
            return false;
        rc = add_sub(table, p, NULL);
        directory->subs++;
        break;
    case 'f':
        if (!take_number(&bytes, &p) || !take_number(&mtime_ns, &p))
            return false;
        rc = add_file(
            table,
            (struct ff_folder_file){directory->path, p, (uint64_t)bytes, mtime_ns},
            NULL);
        directory->files++;
        break;
    default: return false;
    }
    *no_room = rc != 0;
    return !rc && *p && (line[0] == 'd' || !strchr(p, '/'));
}

/* The manifest as a table, directories sorted by path; an empty one where there is none
 * that is whole. */
static void manifest_read(struct ff_folder_table *table, const char *root)
{
    char path[FF_PATH_MAX], hash[FF_SHA256_HEX];
    size_t bytes = 0;
    bool no_room = false;
    *table = (struct ff_folder_table){0};
    if (ff_path(path, NULL, "%s/" FF_FOLDER_MANIFEST, root) || access(path, R_OK) ||
        ff_read_file(&table->text, &bytes, path, NULL))
        return;
    const size_t end_bytes = strlen("end \n") + FF_SHA256_HEX - 1;
    char *text = table->text, *end = text + bytes;
    bool good = bytes > end_bytes && !memchr(text, 0, bytes) &&
                strncmp(end - end_bytes, "end ", 4) == 0;
    if (good) {
        end -= end_bytes;
        ff_sha256(hash, text, (size_t)(end - text));
        good = memcmp(end + 4, hash, FF_SHA256_HEX - 1) == 0 &&
               strncmp(text, MANIFEST_SCHEMA "\n", sizeof MANIFEST_SCHEMA) == 0;
    }
    for (char *line = text + sizeof MANIFEST_SCHEMA; good && line < end;) {
        char *stop = memchr(line, '\n', (size_t)(end - line));
        if (stop)
            *stop = 0;
        good = stop && parse_line(table, line, &no_room);
        line = stop + 1;
    }
    if (good) {
        if (table->directory_count)
            qsort(table->directories, (size_t)table->directory_count,
                  sizeof *table->directories, by_path);
        return;
    }
    ff_verbose("%s: damaged; the folders are read again", path);
    ff_folder_table_fini(table);
}

/* Writes the table; where that does not work, leaves no trace. */
static void manifest_write(const struct ff_folder *folder)
{
    const struct ff_folder_table *table = &folder->table;
    char path[FF_PATH_MAX], hash[FF_SHA256_HEX], *text = NULL;
    size_t bytes = 0;
    struct ff_atomic_file file;
    if (ff_path(path, NULL, "%s/" FF_FOLDER_MANIFEST, folder->root) ||
        access(folder->root, W_OK) != 0)
        return;
    FILE *stream = open_memstream(&text, &bytes);
    if (!stream)
        return;
    fputs(MANIFEST_SCHEMA "\n", stream);
    bool good = true;
    int64_t at = 0;
    for (int64_t i = 0; i < table->directory_count; i++) {
        const struct ff_folder_directory *directory = &table->directories[i];
        good = good && !strchr(directory->path, '\n');
        fprintf(stream, "d %" PRId64 " %s\n", directory->mtime_ns, directory->path);
        for (int64_t k = 0; k < directory->subs; k++)
            fprintf(stream, "s %s\n", table->subs[directory->first_sub + k]);
        for (; at < table->file_count && table->files[at].directory == directory->path;
             at++) {
            const struct ff_folder_file *image = &table->files[at];
            good = good && !strchr(image->name, '\n');
            fprintf(stream, "f %" PRIu64 " %" PRId64 " %s\n", image->bytes,
                    image->mtime_ns > 0 ? image->mtime_ns : 0, image->name);
        }
    }
    good = fclose(stream) == 0 && good && at == table->file_count;
    if (good && ff_atomic_begin(&file, path, NULL) == 0) {
        ff_sha256(hash, text, bytes);
        fwrite(text, 1, bytes, file.stream);
        fprintf(file.stream, "end %s\n", hash);
        ff_atomic_commit(&file, NULL);
    }
    free(text);
}

/* ---- the walk ---- */

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

static int64_t ns_of(struct timespec time)
{
    return time.tv_sec * NS_PER_S + time.tv_nsec;
}

/* A folder's mtime as it may be noted: 0 if a later change could leave it as it is. */
static int64_t settled_mtime(const struct stat *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    int64_t mtime_ns = ns_of(st->st_mtim);
    int64_t tick_ns = mtime_ns % NS_PER_S ? TICK_NS : COARSE_TICK_NS;
    return mtime_ns > 0 && mtime_ns + tick_ns < ns_of(now) ? mtime_ns : 0;
}

/* One entry of the folder open as `fd`, whose place below the root is `below`. */
static int take_entry(struct ff_folder *folder, const char *below, int fd,
                      const struct dirent *entry, struct ff_err *err)
{
    struct ff_folder_table *table = &folder->table;
    const char *name = entry->d_name;
    enum ending ending = ending_of(name);
    struct stat st;
    bool is_file = entry->d_type == DT_REG, is_folder = entry->d_type == DT_DIR;
    if (is_file && ending == NO_PICTURE)
        return 0;
    if (!is_folder && (!is_file || ending == DECODED)) {
        if (fstatat(fd, name, &st, 0) != 0) {
            if (ending == NO_PICTURE)
                return 0;
            return ff_err_errno(err, FF_EDATA, "cannot stat %s/%s/%s", folder->root,
                                below, name);
        }
        is_file = S_ISREG(st.st_mode);
        is_folder = S_ISDIR(st.st_mode);
    }
    if (!is_folder && ending == NO_PICTURE)
        return 0;
    if (!is_folder && !is_file)
        return ff_err_set(err, FF_EDATA, "%s/%s/%s: is no regular file", folder->root,
                          below, name);
    if (is_file && ending == NOT_DECODED)
        return ff_err_set(
            err, FF_EDATA,
            "%s/%s/%s: %s images are not decoded; convert it to JPEG or PNG",
            folder->root, below, name, strrchr(name, '.'));
    const char *copy = keep(table, name);
    if (!copy)
        return no_memory(err);
    if (is_folder)
        return add_sub(table, copy, err);
    return add_file(
        table,
        (struct ff_folder_file){below, copy, (uint64_t)st.st_size, ns_of(st.st_mtim)},
        err);
}

/* Reads folder number `at` of the table: its images and the names of its folders. */
static int read_directory(struct ff_folder *folder, int64_t at, DIR *dir,
                          struct ff_err *err)
{
    struct ff_folder_table *table = &folder->table;
    const char *below = table->directories[at].path;
    int rc = 0;
    while (!rc) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry) {
            if (errno)
                rc = ff_err_errno(err, FF_EDATA, "cannot read folder %s/%s",
                                  folder->root, below);
            break;
        }
        if (!is_dot(entry->d_name))
            rc = take_entry(folder, below, dirfd(dir), entry, err);
    }
    struct ff_folder_directory *directory = &table->directories[at];
    directory->subs = table->sub_count - directory->first_sub;
    if (directory->subs)
        qsort(table->subs + directory->first_sub, (size_t)directory->subs,
              sizeof *table->subs, by_bytes);
    folder->scanned++;
    return rc;
}

/* The same out of the manifest's table. */
static int copy_directory(struct ff_folder *folder, int64_t at,
                          const struct ff_folder_table *old,
                          const struct ff_folder_directory *from, struct ff_err *err)
{
    struct ff_folder_table *table = &folder->table;
    int rc = 0;
    for (int64_t i = 0; i < from->subs && !rc; i++)
        rc = add_sub(table, old->subs[from->first_sub + i], err);
    for (int64_t i = 0; i < from->files && !rc; i++) {
        struct ff_folder_file file = old->files[from->first_file + i];
        file.directory = table->directories[at].path;
        rc = add_file(table, file, err);
    }
    table->directories[at].subs = from->subs;
    return rc;
}

/* Adds folder root/<below> and those in it. */
static int walk(struct ff_folder *folder, const struct ff_folder_table *old,
                const char *below, int depth, struct ff_err *err)
{
    struct ff_folder_table *table = &folder->table;
    char path[FF_PATH_MAX];
    struct stat st;
    DIR *dir = NULL;
    int rc = ff_path(path, err, "%s/%s", folder->root, below);
    if (!rc && depth > MAX_DEPTH)
        rc =
            ff_err_set(err, FF_EDATA, "%s: more than %d folders deep", path, MAX_DEPTH);
    const char *copy = rc ? NULL : keep(table, below);
    if (!rc && !copy)
        rc = no_memory(err);
    if (!rc && stat(path, &st) != 0)
        rc = ff_err_errno(err, FF_EDATA, "cannot stat folder %s", path);
    if (rc)
        return rc;
    int64_t at = table->directory_count;
    const struct ff_folder_directory wanted = {.path = below};
    const struct ff_folder_directory *from =
        old->directory_count
            ? bsearch(&wanted, old->directories, (size_t)old->directory_count,
                      sizeof *old->directories, by_path)
            : NULL;
    if (from && from->mtime_ns && from->mtime_ns == ns_of(st.st_mtim)) {
        rc = add_directory(table, copy, from->mtime_ns, err);
        if (!rc)
            rc = copy_directory(folder, at, old, from, err);
    } else {
        dir = opendir(path);
        if (!dir || fstat(dirfd(dir), &st) != 0)
            rc = ff_err_errno(err, FF_EDATA, "cannot open folder %s", path);
        if (!rc)
            rc = add_directory(table, copy, settled_mtime(&st), err);
        if (!rc)
            rc = read_directory(folder, at, dir, err);
        if (dir)
            closedir(dir);
    }
    int64_t first = rc ? 0 : table->directories[at].first_sub;
    int64_t subs = rc ? 0 : table->directories[at].subs;
    for (int64_t i = 0; i < subs && !rc; i++) {
        rc = ff_path(path, err, "%s/%s", below, table->subs[first + i]);
        if (!rc)
            rc = walk(folder, old, path, depth + 1, err);
    }
    return rc;
}

/* The names of the folders in root, sorted, into subs of an otherwise empty table. */
static int read_root(struct ff_folder_table *names, const char *root,
                     struct ff_err *err)
{
    int rc = 0;
    DIR *dir = opendir(root);
    if (!dir)
        return ff_err_errno(err, FF_EDATA, "cannot open folder %s", root);
    while (!rc) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        struct stat st;
        if (!entry) {
            if (errno)
                rc = ff_err_errno(err, FF_EDATA, "cannot read folder %s", root);
            break;
        }
        bool is_folder = entry->d_type == DT_DIR;
        if (entry->d_type == DT_LNK || entry->d_type == DT_UNKNOWN)
            is_folder =
                fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && S_ISDIR(st.st_mode);
        if (!is_folder || is_dot(entry->d_name))
            continue;
        const char *name = keep(names, entry->d_name);
        rc = name ? add_sub(names, name, err) : no_memory(err);
    }
    closedir(dir);
    if (names->sub_count)
        qsort(names->subs, (size_t)names->sub_count, sizeof *names->subs, by_bytes);
    return rc;
}

int ff_folder_scan(struct ff_folder *folder, struct ff_err *err)
{
    struct ff_folder_table *table = &folder->table, names = {0}, old;
    manifest_read(&old, folder->root);
    int rc = read_root(&names, folder->root, err);
    if (!rc &&
        !(folder->first = calloc((size_t)names.sub_count + 1, sizeof *folder->first)))
        rc = no_memory(err);
    for (int64_t i = 0; !rc && i < names.sub_count; i++) {
        int64_t first_file = table->file_count, first = table->directory_count;
        rc = walk(folder, &old, names.subs[i], 1, err);
        int64_t files = table->file_count - first_file;
        if (!rc && files == 0)
            rc = ff_err_set(err, FF_EDATA, "%s/%s: an identity without images",
                            folder->root, names.subs[i]);
        if (rc)
            break;
        qsort(table->directories + first, (size_t)(table->directory_count - first),
              sizeof *table->directories, by_path);
        qsort(table->files + first_file, (size_t)files, sizeof *table->files,
              by_directory_then_name);
        for (int64_t k = first_file; k < table->file_count; k++)
            folder->bytes += table->files[k].bytes;
        folder->first[++folder->classes] = table->file_count;
    }
    if (!rc && folder->classes == 0)
        rc = ff_err_set(err, FF_EUSAGE, "%s: no folder of an identity in it",
                        folder->root);
    if (!rc && (folder->scanned || old.directory_count != table->directory_count))
        manifest_write(folder);
    /* Names taken from the manifest lie in its text. */
    folder->manifest_text = old.text;
    old.text = NULL;
    ff_folder_table_fini(&old);
    ff_folder_table_fini(&names);
    return rc;
}

int ff_folder_refresh(struct ff_folder *folder, struct ff_err *err)
{
    char path[FF_PATH_MAX];
    bool changed = false;
    int rc = 0;
    folder->bytes = 0;
    for (int64_t i = 0; !rc && i < folder->table.file_count; i++) {
        struct ff_folder_file *file = &folder->table.files[i];
        struct stat st;
        rc = ff_path(path, err, "%s/%s/%s", folder->root, file->directory, file->name);
        if (!rc && stat(path, &st) != 0)
            rc = ff_err_errno(err, FF_EDATA, "cannot stat %s", path);
        if (rc)
            break;
        int64_t mtime_ns = ns_of(st.st_mtim);
        changed = changed || file->mtime_ns != mtime_ns ||
                  file->bytes != (uint64_t)st.st_size;
        file->mtime_ns = mtime_ns;
        file->bytes = (uint64_t)st.st_size;
        folder->bytes += file->bytes;
    }
    if (!rc && changed)
        manifest_write(folder);
    return rc;
}
