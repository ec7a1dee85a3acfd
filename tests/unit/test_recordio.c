/* SPDX-License-Identifier: MIT */
/* RecordIO: the writer's layout byte by byte, and packs of every kind read back. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>

#include <fcntl.h>
#include <png.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "data_fixture.h"
#include "dataset.h"

static struct scratch scratch;

static void setup(void)
{
    scratch_init(&scratch);
}

static void teardown(void)
{
    scratch_fini(&scratch);
}

TestSuite(recordio, .init = setup, .fini = teardown, .timeout = 20);

static struct ff_recordio *open_set(void)
{
    struct ff_recordio *rec = NULL;
    struct ff_err err = FF_ERR_INIT;
    int rc = ff_recordio_open(&rec, at(&scratch, "set"), &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return rec;
}

static void expect_open_fails(const char *text)
{
    struct ff_recordio *rec = NULL;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_recordio_open(&rec, at(&scratch, "set"), &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, text), NULL), "\"%s\" lacks \"%s\"", err.text,
              text);
}

static void expect_image(struct ff_recordio *rec, int64_t index, int64_t label,
                         const void *image, size_t bytes)
{
    struct ff_read_buffer buffer = {0};
    struct ff_err err = FF_ERR_INIT;
    const uint8_t *found;
    size_t size;
    int64_t found_label;
    int rc = ff_recordio_read(&found, &size, &found_label, rec, index, &buffer, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    cr_assert(eq(i64, found_label, label));
    cr_assert(eq(sz, size, bytes));
    cr_assert(eq(int, memcmp(found, image, bytes), 0));
    free(buffer.data);
}

static void expect_damaged(struct ff_recordio *rec, int64_t index, const char *text)
{
    struct ff_read_buffer buffer = {0};
    struct ff_err err = FF_ERR_INIT;
    const uint8_t *found;
    size_t size;
    int64_t label;
    int rc = ff_recordio_read(&found, &size, &label, rec, index, &buffer, &err);
    cr_assert(eq(int, rc, FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, text), NULL), "\"%s\" lacks \"%s\"", err.text,
              text);
    free(buffer.data);
}

/* Writes the given images, labels 0 0 1 2 2 .. as told. */
static void write_set(int count, const int64_t *labels, const char *const *images,
                      const size_t *sizes)
{
    struct ff_rec_writer *writer = NULL;
    cr_assert(
        eq(int, ff_rec_writer_create(&writer, at(&scratch, "set"), 30, 20, NULL), 0));
    for (int i = 0; i < count; i++)
        cr_assert(eq(
            int, ff_rec_writer_add(writer, labels[i], images[i], sizes[i], NULL), 0));
    cr_assert(eq(int, ff_rec_writer_finish(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
}

Test(recordio, round_trip)
{
    const int64_t labels[] = {0, 0, 1, 2, 2, 2};
    const char *images[] = {"a", "bb", "ccc", "dddd", "eeeee", "ffffff"};
    const size_t sizes[] = {1, 2, 3, 4, 5, 6};
    write_set(6, labels, images, sizes);
    struct ff_recordio *rec = open_set();
    cr_assert(eq(i64, ff_recordio_count(rec), 6));
    cr_assert(eq(i64, ff_recordio_classes(rec), 3));
    for (int i = 0; i < 6; i++) {
        expect_image(rec, i, labels[i], images[i], sizes[i]);
        cr_assert(eq(i64, ff_recordio_key(rec, i), i + 1));
    }
    int width, height;
    ff_recordio_image_size(&width, &height, rec);
    cr_assert(eq(int, width, 30));
    cr_assert(eq(int, height, 20));
    ff_recordio_close(rec);
}

Test(recordio, writes_the_insightface_layout)
{
    const int64_t labels[] = {0, 1, 1};
    const char *images[] = {"abc", "de", "f"};
    const size_t sizes[] = {3, 2, 1};
    write_set(3, labels, images, sizes);
    /* Record 0: images end at key 4, identity records at key 6. */
    const uint32_t head[] = {FF_REC_MAGIC, 32, 2, 0, 0, 0, 0, 0};
    const float keys[] = {4.0f, 6.0f};
    char *bytes = NULL, *index = NULL, *property = NULL;
    size_t size, index_size, property_size;
    cr_assert(
        eq(int, ff_read_file(&bytes, &size, at(&scratch, "set/train.rec"), NULL), 0));
    cr_assert(eq(int, memcmp(bytes, head, sizeof head), 0));
    cr_assert(eq(int, memcmp(bytes + sizeof head, keys, sizeof keys), 0));
    cr_assert(eq(sz, size, 40 + (8 + 28) + (8 + 28) + (8 + 28) + 2 * 40));
    cr_assert(eq(int,
                 ff_read_file(&index, &index_size, at(&scratch, "set/train.idx"), NULL),
                 0));
    cr_assert(eq(str, index, "0\t0\n1\t40\n2\t76\n3\t112\n4\t148\n5\t188\n"));
    cr_assert(
        eq(int,
           ff_read_file(&property, &property_size, at(&scratch, "set/property"), NULL),
           0));
    cr_assert(eq(str, property, "2,20,30\n"));
    struct ff_recordio *rec = open_set();
    int64_t first, last;
    cr_assert(eq(i64, ff_recordio_identities(rec), 2));
    cr_assert(eq(int, ff_recordio_identity(&first, &last, rec, 1, NULL), 0));
    cr_assert(eq(i64, first, 2));
    cr_assert(eq(i64, last, 4));
    ff_recordio_close(rec);
    free(bytes);
    free(index);
    free(property);
}

Test(recordio, splits_a_payload_that_holds_the_magic)
{
    /* Aligned twice and unaligned once; the payload's header is a multiple of 4. */
    char image[31];
    const uint32_t magic = FF_REC_MAGIC;
    memset(image, 'x', sizeof image);
    memcpy(image + 4, &magic, 4);
    memcpy(image + 8, &magic, 4);
    memcpy(image + 17, &magic, 4);
    const int64_t labels[] = {0, 0};
    const char *images[] = {image, "tail"};
    const size_t sizes[] = {sizeof image, 4};
    write_set(2, labels, images, sizes);
    char *bytes = NULL;
    size_t size;
    cr_assert(
        eq(int, ff_read_file(&bytes, &size, at(&scratch, "set/train.rec"), NULL), 0));
    const uint32_t part_of_28 = 1u << FF_REC_LENGTH_BITS | 28,
                   empty = 2u << FF_REC_LENGTH_BITS;
    const uint32_t last_of_19 = 3u << FF_REC_LENGTH_BITS | 19;
    cr_assert(eq(int, memcmp(bytes + 44, &part_of_28, 4), 0));
    cr_assert(eq(int, memcmp(bytes + 40 + 36 + 4, &empty, 4), 0));
    cr_assert(eq(int, memcmp(bytes + 40 + 36 + 8 + 4, &last_of_19, 4), 0));
    free(bytes);
    struct ff_recordio *rec = open_set();
    expect_image(rec, 0, 0, image, sizeof image);
    expect_image(rec, 1, 0, "tail", 4);
    ff_recordio_close(rec);
    cr_assert(eq(int, unlink(at(&scratch, "set/train.idx")), 0));
    rec = open_set();
    expect_image(rec, 0, 0, image, sizeof image);
    ff_recordio_close(rec);
}

Test(recordio, joins_parts_made_by_others)
{
    struct hand_pack pack = {0};
    uint8_t payload[64];
    size_t bytes = hand_payload(payload, 0, 5, "abcd", 4);
    hand_part(&pack, 1, payload, bytes);
    hand_part(&pack, 2, "efgh", 4);
    hand_part(&pack, 3, "ij", 2);
    hand_write(&pack, &scratch, true);
    struct ff_recordio *rec = open_set();
    expect_image(rec, 0, 5,
                 "abcd\x0a\x23\xd7\xce"
                 "efgh\x0a\x23\xd7\xce"
                 "ij",
                 18);
    cr_assert(eq(i64, ff_recordio_classes(rec), 6));
    ff_recordio_close(rec);
}

Test(recordio, refuses_parts_out_of_order)
{
    struct hand_pack pack = {0};
    uint8_t payload[64];
    hand_record(&pack, 0, 0, "whole");
    hand_part(&pack, 1, payload, hand_payload(payload, 0, 1, "abcd", 4));
    hand_record(&pack, 0, 0, "whole");
    hand_write(&pack, &scratch, true);
    write_file(at(&scratch, "set/property"), "2,8,8\n", 6);
    struct ff_recordio *rec = open_set();
    expect_damaged(rec, 1, "record 1 (offset 40): part flag 0 where part 2 begins");
    ff_recordio_close(rec);
}

Test(recordio, reads_without_an_index)
{
    cr_assert(eq(int, make_set(at(&scratch, "set"), 3, 2, 16, 0), 0));
    struct ff_recordio *with = open_set();
    cr_assert(eq(int, unlink(at(&scratch, "set/train.idx")), 0));
    struct ff_recordio *without = open_set();
    cr_assert(eq(i64, ff_recordio_count(without), 6));
    cr_assert(eq(i64, ff_recordio_identities(without), 3));
    struct ff_read_buffer buffer = {0};
    for (int64_t i = 0; i < 6; i++) {
        const uint8_t *bytes;
        size_t size;
        int64_t label;
        cr_assert(eq(
            int, ff_recordio_read(&bytes, &size, &label, with, i, &buffer, NULL), 0));
        expect_image(without, i, label, bytes, size);
    }
    ff_recordio_close(with);
    ff_recordio_close(without);
}

Test(recordio, sorts_an_unsorted_index)
{
    struct hand_pack pack = {0};
    hand_record(&pack, 0, 0, "zero");
    hand_record(&pack, 0, 1, "one");
    hand_record(&pack, 0, 2, "two");
    hand_write(&pack, &scratch, false);
    const char text[] = "7\t0\r\n10\t72\r\n9\t36";
    write_file(at(&scratch, "set/train.idx"), text, strlen(text));
    struct ff_recordio *rec = open_set();
    expect_image(rec, 0, 0, "zero", 4);
    expect_image(rec, 1, 1, "one", 3);
    expect_image(rec, 2, 2, "two", 3);
    cr_assert(eq(i64, ff_recordio_key(rec, 2), 10));
    ff_recordio_close(rec);
}

Test(recordio, names_the_line_of_a_bad_index)
{
    struct hand_pack pack = {0};
    hand_record(&pack, 0, 0, "zero");
    hand_write(&pack, &scratch, false);
    write_file(at(&scratch, "set/train.idx"), "0\t0\n1 two\n", 10);
    expect_open_fails("train.idx:2: expected key, tab, offset; found \"1 two\"");
    write_file(at(&scratch, "set/train.idx"), "0\t0\n0\t0\n", 8);
    expect_open_fails("key 0 stands there twice");
}

Test(recordio, names_the_first_record_a_cut_file_lacks)
{
    struct hand_pack pack = {0};
    for (int i = 0; i < 5; i++)
        hand_record(&pack, 0, (float)i, "12345678");
    pack.size = pack.offsets[3] + 20;
    hand_write(&pack, &scratch, true);
    expect_open_fails("train.rec: record 3 (offset 120): 32 bytes announced, 12 there");
    pack.size = pack.offsets[3];
    hand_write(&pack, &scratch, true);
    expect_open_fails(
        "record 3 (offset 120): the file ends at 120 bytes: it is cut short");
    pack.size = pack.offsets[3] + 20;
    hand_write(&pack, &scratch, false);
    cr_assert(eq(int, unlink(at(&scratch, "set/train.idx")), 0));
    expect_open_fails("record 3 (offset 120): 32 bytes announced, 12 there");
}

Test(recordio, reads_every_key_of_a_plain_pack)
{
    struct hand_pack pack = {0};
    hand_record(&pack, 0, 4, "first");
    hand_record(&pack, 2, 3, "two labels and an image");
    hand_record(&pack, 9, 1, "nine labels");
    hand_write(&pack, &scratch, true);
    struct ff_recordio *rec = open_set();
    cr_assert(eq(i64, ff_recordio_count(rec), 3));
    cr_assert(eq(i64, ff_recordio_classes(rec), 5));
    cr_assert(eq(i64, ff_recordio_identities(rec), 0));
    expect_image(rec, 0, 4, "first", 5);
    expect_image(rec, 1, 3, "two labels and an image", 23);
    expect_image(rec, 2, 1, "nine labels", 11);
    ff_recordio_close(rec);
}

Test(recordio, reports_records_that_make_no_sense)
{
    struct hand_pack pack = {0};
    hand_record(&pack, 0, 0, "good");
    hand_record(&pack, 0, 1.5f, "half a person");
    hand_record(&pack, 0, 3, "not one of two");
    hand_record(&pack, 0, 1, "");
    hand_part(&pack, 0, "short", 5);
    uint8_t payload[64];
    hand_payload(payload, 0, 0, "abcd", 4);
    const uint32_t flag = 1000;
    memcpy(payload, &flag, sizeof flag);
    hand_part(&pack, 0, payload, 28);
    hand_record(&pack, 0, 0, "magic spoilt");
    pack.bytes[pack.offsets[6]] ^= 1;
    hand_record(&pack, 0, 1, "good");
    hand_write(&pack, &scratch, true);
    write_file(at(&scratch, "set/property"), "2,8,8", 5);
    struct ff_recordio *rec = open_set();
    expect_image(rec, 0, 0, "good", 4);
    expect_damaged(rec, 1, "label 1.5 is no identity number");
    expect_damaged(rec, 2, "label 3, but there are 2 identities");
    expect_damaged(rec, 3, "holds no image");
    expect_damaged(rec, 4, "payload of 5 bytes");
    expect_damaged(rec, 5, "1000 labels announced");
    expect_damaged(rec, 6, "instead of the magic");
    expect_image(rec, 7, 1, "good", 4);
    ff_recordio_close(rec);
}

Test(recordio, notices_missing_identity_records)
{
    cr_assert(eq(int, make_set(at(&scratch, "set"), 3, 2, 16, 0), 0));
    char *index = NULL;
    size_t bytes;
    cr_assert(
        eq(int, ff_read_file(&index, &bytes, at(&scratch, "set/train.idx"), NULL), 0));
    index[bytes - 1] = 0;
    write_file(at(&scratch, "set/train.idx"), index,
               (size_t)(strrchr(index, '\n') + 1 - index));
    free(index);
    expect_open_fails("announces 3 identity records, 2 are there");
}

Test(recordio, refuses_a_bad_property)
{
    struct hand_pack pack = {0};
    hand_record(&pack, 0, 0, "zero");
    hand_write(&pack, &scratch, true);
    write_file(at(&scratch, "set/property"), "many,112,112\n", 13);
    expect_open_fails(
        "property:1: expected classes,height,width; found \"many,112,112\"");
    write_file(at(&scratch, "set/property"), "", 0);
    expect_open_fails("property:1: expected classes,height,width; found \"\"");
}

Test(recordio, writer_refuses_labels_with_a_hole)
{
    struct ff_rec_writer *writer = NULL;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(
        eq(int, ff_rec_writer_create(&writer, at(&scratch, "set"), 8, 8, NULL), 0));
    cr_assert(eq(int, ff_rec_writer_finish(writer, NULL), FF_EUSAGE));
    cr_assert(eq(int, ff_rec_writer_add(writer, 0, "a", 1, NULL), 0));
    cr_assert(eq(int, ff_rec_writer_add(writer, 2, "a", 1, &err), FF_EUSAGE));
    cr_assert(ne(ptr, strstr(err.text, "label 2 after 0"), NULL));
    cr_assert(eq(int, ff_rec_writer_add(writer, 1, "a", 0, NULL), FF_EUSAGE));
    ff_rec_writer_destroy(writer);
}

Test(recordio, writer_leaves_nothing_of_an_unfinished_set)
{
    struct ff_rec_writer *writer = NULL;
    cr_assert(
        eq(int, ff_rec_writer_create(&writer, at(&scratch, "set"), 8, 8, NULL), 0));
    cr_assert(eq(int, ff_rec_writer_add(writer, 0, "a", 1, NULL), 0));
    cr_assert(ne(int, access(at(&scratch, "set/train.rec"), F_OK), 0));
    ff_rec_writer_destroy(writer);
    cr_assert(eq(int, rmdir(at(&scratch, "set")), 0));
}

Test(recordio, writer_keeps_a_set_that_is_there)
{
    struct ff_rec_writer *writer = NULL;
    cr_assert(eq(int, make_set(at(&scratch, "set"), 1, 1, 16, 0), 0));
    cr_assert(eq(int, ff_rec_writer_create(&writer, at(&scratch, "set"), 8, 8, NULL),
                 FF_EUSAGE));
}

/* ---- payloads of other people's packs ---- */

static uint8_t *png_of(size_t *bytes, int side, int number)
{
    struct ff_image image = picture(side, side, number);
    png_image png = {.version = PNG_IMAGE_VERSION,
                     .width = (png_uint_32)side,
                     .height = (png_uint_32)side,
                     .format = PNG_FORMAT_RGB};
    png_alloc_size_t size = 1 << 14;
    uint8_t *out = malloc(size);
    cr_assert(
        eq(int, png_image_write_to_memory(&png, out, &size, 0, image.rgb, 0, NULL), 1));
    ff_image_fini(&image);
    *bytes = size;
    return out;
}

/* The JPEG with an EXIF orientation behind its SOI marker; malloc'd. */
static uint8_t *turned_jpeg(size_t *bytes, int width, int height, uint8_t orientation)
{
    uint8_t segment[] = {0xff, 0xe1,        0,    34,  'E', 'x', 'i', 'f', 0,
                         0,    'I',         'I',  '*', 0,   8,   0,   0,   0,
                         1,    0,           0x12, 1,   3,   0,   1,   0,   0,
                         0,    orientation, 0,    0,   0,   0,   0,   0,   0};
    size_t plain_bytes;
    uint8_t *plain = picture_jpeg(&plain_bytes, width, height, 3);
    uint8_t *out = malloc(plain_bytes + sizeof segment);
    memcpy(out, plain, 2);
    memcpy(out + 2, segment, sizeof segment);
    memcpy(out + 2 + sizeof segment, plain + 2, plain_bytes - 2);
    free(plain);
    *bytes = plain_bytes + sizeof segment;
    return out;
}

Test(recordio, png_payloads_exif_and_nine_labels_reach_the_loader)
{
    /* Sample 0: PNG. 1: JPEG on its side, 9 labels. 2: JPEG in two parts. */
    struct hand_pack *pack = calloc(1, sizeof *pack);
    uint8_t *payload = malloc(1 << 15);
    size_t bytes;
    uint8_t *image = png_of(&bytes, 16, 3);
    hand_part(pack, 0, payload, hand_payload(payload, 0, 0, image, bytes));
    free(image);
    image = turned_jpeg(&bytes, 16, 16, 6);
    hand_part(pack, 0, payload, hand_payload(payload, 9, 1, image, bytes));
    free(image);
    /* A comment segment that holds the magic at a multiple of 4 of the payload. */
    uint8_t *jpeg = picture_jpeg(&bytes, 16, 16, 5);
    image = malloc(bytes + 12);
    memcpy(image, jpeg, 2);
    memcpy(image + 2, "\xff\xfe\0\x0a..\x0a\x23\xd7\xce..", 12);
    memcpy(image + 14, jpeg + 2, bytes - 2);
    size_t whole = hand_payload(payload, 2, 1, image, bytes + 12);
    size_t split = FF_REC_IMAGE_HEADER_BYTES + 8 + 8;
    hand_part(pack, 1, payload, split);
    hand_part(pack, 3, payload + split + 4, whole - split - 4);
    free(image);
    free(jpeg);
    hand_write(pack, &scratch, true);
    struct ff_dataset *dataset = NULL;
    cr_assert(eq(int, ff_dataset_open(&dataset, at(&scratch, "set"), NULL), 0));
    cr_assert(eq(i64, ff_dataset_count(dataset), 3));
    cr_assert(eq(i64, ff_dataset_classes(dataset), 2));
    struct ff_decoder *decoder = NULL;
    cr_assert(eq(int, ff_decoder_create(&decoder, NULL), 0));
    struct ff_read_buffer buffer = {0};
    struct ff_image decoded = {0}, upright = picture(16, 16, 3);
    for (int64_t i = 0; i < 3; i++) {
        const uint8_t *found;
        size_t size;
        int64_t label;
        struct ff_err err = FF_ERR_INIT;
        int rc = ff_dataset_read(&found, &size, &label, dataset, i, &buffer, &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        cr_assert(eq(i64, label, i > 0));
        rc = ff_decode(&decoded, decoder, found, size, ff_dataset_applies_exif(dataset),
                       &err);
        cr_assert(eq(int, rc, 0), "%s", err.text);
        cr_assert(eq(int, decoded.width_px, 16));
        for (int y = 0; y < 16 && i < 2; y++) {
            for (int x = 0; x < 16; x++) {
                /* Orientation 6: the stored picture is turned clockwise. */
                const uint8_t *want =
                    upright.rgb + 3 * (i == 0 ? y * 16 + x : (15 - x) * 16 + y);
                const uint8_t *got = decoded.rgb + 3 * (y * 16 + x);
                for (int c = 0; c < 3; c++)
                    cr_assert(le(int, abs(want[c] - got[c]), i == 0 ? 0 : 8));
            }
        }
    }
    ff_image_fini(&decoded);
    ff_image_fini(&upright);
    ff_decoder_destroy(decoder);
    ff_dataset_close(dataset);
    free(buffer.data);
    free(payload);
    free(pack);
}

/* Writes one record with 4 bytes of image at `offset` of an open file. */
static void put_record_at(int fd, uint64_t offset, float label, const char *image)
{
    uint8_t payload[64];
    size_t bytes = hand_payload(payload, 0, label, image, strlen(image));
    uint32_t header[2] = {FF_REC_MAGIC, (uint32_t)bytes};
    cr_assert(eq(int, (int)pwrite(fd, header, sizeof header, (off_t)offset), 8));
    cr_assert(eq(int, (int)pwrite(fd, payload, bytes, (off_t)offset + 8), (int)bytes));
}

Test(recordio, offsets_beyond_four_gib)
{
    const uint64_t gib = (uint64_t)1 << 30;
    const uint64_t offsets[] = {0, 4 * gib - 36, 4 * gib, 5 * gib + 4, 9 * gib};
    char index[256];
    int length = 0;
    cr_assert(eq(int, ff_mkdirs(at(&scratch, "set"), NULL), 0));
    int fd = open(at(&scratch, "set/train.rec"), O_RDWR | O_CREAT, 0666);
    if (ftruncate(fd, (off_t)(9 * gib + 36)) != 0) {
        close(fd);
        cr_skip_test("no sparse files of 9 GiB here");
    }
    for (int i = 0; i < 5; i++) {
        char image[5] = "img0";
        image[3] = (char)('0' + i);
        put_record_at(fd, offsets[i], (float)i, image);
        length += snprintf(index + length, sizeof index - (size_t)length, "%d\t%llu\n",
                           i, (unsigned long long)offsets[i]);
    }
    write_file(at(&scratch, "set/train.idx"), index, (size_t)length);
    write_file(at(&scratch, "set/property"), "5,16,16\n", 8);
    struct ff_recordio *rec = open_set();
    cr_assert(eq(u64, ff_recordio_bytes(rec), 9 * gib + 36));
    expect_image(rec, 0, 0, "img0", 4);
    expect_image(rec, 1, 1, "img1", 4);
    expect_image(rec, 2, 2, "img2", 4);
    expect_image(rec, 3, 3, "img3", 4);
    expect_image(rec, 4, 4, "img4", 4);
    char where[256], print[65];
    ff_recordio_describe(where, sizeof where, rec, 4);
    cr_assert(eq(str, where, "train.rec: record 4 (offset 9663676416)"));
    cr_assert(eq(int, ff_recordio_fingerprint(print, rec, NULL), 0));
    ff_recordio_will_read(rec, 3, 100);
    ff_recordio_close(rec);
    cr_assert(eq(int, ftruncate(fd, (off_t)(9 * gib + 20)), 0));
    expect_open_fails("record 4 (offset 9663676416): 28 bytes announced, 12 there");
    cr_assert(eq(int, ftruncate(fd, (off_t)(5 * gib + 40)), 0));
    expect_open_fails(
        "record 4 (offset 9663676416): the file ends at 5368709160 bytes");
    close(fd);
}

/* ---- a writer that goes on ---- */

static struct ff_rec_writer *resume(const char *key, int64_t *images)
{
    struct ff_rec_writer *writer = NULL;
    struct ff_err err = FF_ERR_INIT;
    int rc =
        ff_rec_writer_resume(&writer, images, at(&scratch, "set"), 30, 20, key, &err);
    cr_assert(eq(int, rc, 0), "%s", err.text);
    return writer;
}

/* Images first .. end - 1 of a set of 30, three an identity, of 1 .. 30 bytes. */
static void add_images(struct ff_rec_writer *writer, int64_t first, int64_t end)
{
    char image[64];
    for (int64_t i = first; i < end; i++) {
        memset(image, 'a' + (int)i % 26, sizeof image);
        cr_assert(
            eq(int, ff_rec_writer_add(writer, i / 3, image, (size_t)i + 1, NULL), 0));
    }
}

static void expect_same_file(const char *a, const char *b)
{
    char *x = NULL, *y = NULL;
    size_t x_bytes, y_bytes;
    cr_assert(eq(int, ff_read_file(&x, &x_bytes, at(&scratch, a), NULL), 0));
    cr_assert(eq(int, ff_read_file(&y, &y_bytes, at(&scratch, b), NULL), 0));
    cr_assert(eq(sz, x_bytes, y_bytes));
    cr_assert(eq(int, memcmp(x, y, x_bytes), 0));
    free(x);
    free(y);
}

/* What a writer leaves that was never interrupted, in "whole". */
static void write_whole(void)
{
    struct ff_rec_writer *writer = NULL;
    cr_assert(
        eq(int, ff_rec_writer_create(&writer, at(&scratch, "whole"), 30, 20, NULL), 0));
    add_images(writer, 0, 30);
    cr_assert(eq(int, ff_rec_writer_finish(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
}

static void expect_whole(void)
{
    expect_same_file("set/train.rec", "whole/train.rec");
    expect_same_file("set/train.idx", "whole/train.idx");
    expect_same_file("set/property", "whole/property");
    cr_assert(ne(int, access(at(&scratch, "set/train.journal"), F_OK), 0));
    cr_assert(ne(int, access(at(&scratch, "set/train.rec.part"), F_OK), 0));
    cr_assert(ne(int, access(at(&scratch, "set/train.idx.part"), F_OK), 0));
}

Test(recordio, writer_goes_on_behind_its_last_checkpoint)
{
    int64_t images;
    write_whole();
    for (int64_t stop = 0; stop <= 30; stop += 5) {
        struct ff_rec_writer *writer = resume("one", &images);
        cr_assert(eq(i64, images, 0));
        add_images(writer, 0, stop);
        cr_assert(eq(int, ff_rec_writer_checkpoint(writer, NULL), 0));
        add_images(writer, stop, stop + 2 < 30 ? stop + 2 : 30); /* lost */
        ff_rec_writer_destroy(writer);
        cr_assert(ne(int, access(at(&scratch, "set/train.rec"), F_OK), 0));
        writer = resume("one", &images);
        cr_assert(eq(i64, images, stop));
        add_images(writer, stop, 30);
        cr_assert(eq(int, ff_rec_writer_finish(writer, NULL), 0));
        ff_rec_writer_destroy(writer);
        expect_whole();
        cr_assert(eq(int, ff_remove_tree(at(&scratch, "set"), NULL), 0));
    }
}

Test(recordio, writer_goes_on_after_a_torn_journal)
{
    int64_t images;
    write_whole();
    struct ff_rec_writer *writer = resume("one", &images);
    add_images(writer, 0, 10);
    cr_assert(eq(int, ff_rec_writer_checkpoint(writer, NULL), 0));
    add_images(writer, 10, 20);
    cr_assert(eq(int, ff_rec_writer_checkpoint(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
    struct stat st;
    cr_assert(eq(int, stat(at(&scratch, "set/train.journal"), &st), 0));
    cr_assert(eq(int, truncate(at(&scratch, "set/train.journal"), st.st_size - 3), 0));
    writer = resume("one", &images);
    cr_assert(eq(i64, images, 10));
    add_images(writer, 10, 30);
    cr_assert(eq(int, ff_rec_writer_finish(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
    expect_whole();
}

Test(recordio, writer_starts_anew_for_another_key_or_lost_bytes)
{
    int64_t images;
    write_whole();
    struct ff_rec_writer *writer = resume("one", &images);
    add_images(writer, 0, 10);
    cr_assert(eq(int, ff_rec_writer_checkpoint(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
    writer = resume("another", &images);
    cr_assert(eq(i64, images, 0));
    add_images(writer, 0, 20);
    cr_assert(eq(int, ff_rec_writer_checkpoint(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
    cr_assert(eq(int, truncate(at(&scratch, "set/train.rec.part"), 100), 0));
    writer = resume("another", &images);
    cr_assert(eq(i64, images, 0));
    add_images(writer, 0, 30);
    cr_assert(eq(int, ff_rec_writer_finish(writer, NULL), 0));
    ff_rec_writer_destroy(writer);
    expect_whole();
}

Test(recordio, writer_in_use_is_busy_and_a_discarded_one_leaves_nothing)
{
    int64_t images;
    struct ff_rec_writer *writer = resume("one", &images), *other = NULL;
    struct ff_err err = FF_ERR_INIT;
    add_images(writer, 0, 4);
    cr_assert(eq(
        int,
        ff_rec_writer_resume(&other, &images, at(&scratch, "set"), 30, 20, "one", &err),
        FF_EBUSY));
    cr_assert(ne(ptr, strstr(err.text, "set/train.rec: another process"), NULL), "%s",
              err.text);
    cr_assert(eq(int, ff_rec_writer_checkpoint(writer, NULL), 0));
    ff_rec_writer_discard(writer);
    ff_rec_writer_destroy(writer);
    cr_assert(eq(int, rmdir(at(&scratch, "set")), 0));
}

Test(recordio, a_resumable_writer_speaks_of_the_file_that_was_asked_for)
{
    int64_t images;
    struct ff_rec_writer *writer = resume("one", &images);
    struct ff_err err = FF_ERR_INIT;
    struct rlimit all, small;
    add_images(writer, 0, 4);
    signal(SIGXFSZ, SIG_IGN);
    cr_assert(eq(int, getrlimit(RLIMIT_FSIZE, &all), 0));
    small = all;
    small.rlim_cur = 64;
    cr_assert(eq(int, setrlimit(RLIMIT_FSIZE, &small), 0));
    int rc = ff_rec_writer_checkpoint(writer, &err);
    setrlimit(RLIMIT_FSIZE, &all);
    cr_assert(eq(int, rc, FF_EFAIL));
    cr_assert(ne(ptr, strstr(err.text, "set/train.rec: cannot write: "), NULL), "%s",
              err.text);
    ff_rec_writer_discard(writer);
    ff_rec_writer_destroy(writer);
    /* Here the part itself is at fault. */
    cr_assert(eq(int, ff_mkdirs(at(&scratch, "set/train.idx.part"), NULL), 0));
    rc = ff_rec_writer_resume(&writer, &images, at(&scratch, "set"), 30, 20, "one",
                              &err);
    cr_assert(eq(int, rc, FF_EFAIL));
    cr_assert(ne(ptr,
                 strstr(err.text, "set/train.idx: cannot write train.idx.part beside "
                                  "it: Is a directory"),
                 NULL),
              "%s", err.text);
}
