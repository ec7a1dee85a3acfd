/* SPDX-License-Identifier: MIT */
/* Reader of .bin files: every spelling gives the same pairs; everything else is refused
 * with its place. */
#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

#include "atomic_file.h"
#include "bin_pairs.h"
#include "image.h"

#define FOLDER "tests/fixtures/pairs/" /* written by tests/tools/make_bin_pairs.py */

static struct ff_bin_pairs *must_open(const char *name)
{
    struct ff_bin_pairs *pairs;
    struct ff_err err = FF_ERR_INIT;
    char path[256];
    snprintf(path, sizeof path, FOLDER "%s.bin", name);
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, path, &err), 0), "%s", err.text);
    return pairs;
}

/* A pickle in a string of known length, which must be refused with `wanted`. */
static void refuses(const char *bytes, size_t size, const char *wanted)
{
    struct ff_bin_pairs *pairs;
    struct ff_err err = FF_ERR_INIT;
    /* An own copy, so that a sanitizer sees a read past the end. */
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, bytes, size);
    cr_expect(eq(int, ff_bin_pairs_parse(&pairs, "x.bin", copy, size, &err), FF_EDATA),
              "%s", wanted);
    cr_expect(eq(ptr, pairs, NULL));
    cr_expect(ne(ptr, strstr(err.text, wanted), NULL), "wanted %s, found %s", wanted,
              err.text);
    cr_expect(eq(int, strncmp(err.text, "x.bin: ", 7), 0), "%s", err.text);
    cr_expect(eq(ptr, strchr(err.text, '\n'), NULL), "%s", err.text);
    free(copy);
}
#define REFUSES(literal, wanted) refuses(literal, sizeof(literal) - 1, wanted)

Test(bin_pairs, every_spelling_gives_the_same_pairs)
{
    static const char *const others[] = {
        "bytes_p2",     "bytes_p4",    "bytes_p5",          "bytearray_p2",
        "bytearray_p5", "python2_str", "numpy_p2",          "numpy_python2",
        "numpy_p3",     "numpy_p5",    "numpy_p5_readonly", "bool_p2",
        "bool_p4"};
    struct ff_bin_pairs *first = must_open("bytes_p3");
    cr_assert(eq(i64, first->pairs, 13));
    cr_assert(eq(i64, first->same_count, 9));
    for (int i = 0; i < 13; i++)
        cr_assert(eq(int, first->same[i], i % 3 != 1));
    for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
        struct ff_bin_pairs *pairs = must_open(others[k]);
        cr_assert(eq(i64, pairs->pairs, 13), "%s", others[k]);
        cr_assert(eq(i64, pairs->same_count, 9), "%s", others[k]);
        cr_assert(eq(int, memcmp(pairs->same, first->same, 13), 0), "%s", others[k]);
        for (int i = 0; i < 26; i++) {
            cr_assert(eq(sz, pairs->image[i].size, first->image[i].size), "%s: %d",
                      others[k], i);
            cr_assert(eq(int,
                         memcmp(pairs->image[i].bytes, first->image[i].bytes,
                                first->image[i].size),
                         0),
                      "%s: %d", others[k], i);
        }
        ff_bin_pairs_close(pairs);
    }
    ff_bin_pairs_close(first);
}

Test(bin_pairs, images_are_whole_pictures)
{
    struct ff_bin_pairs *pairs = must_open("numpy_p2");
    struct ff_decoder *decoder;
    uint8_t rgb[2][16 * 16 * 3];
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_decoder_create(&decoder, &err), 0));
    for (int i = 0; i < 26; i++)
        cr_assert(eq(int,
                     ff_decode_square(rgb[i % 2], 16, decoder, pairs->image[i].bytes,
                                      pairs->image[i].size, false, &err),
                     0),
                  "%d: %s", i, err.text);
    cr_assert(ne(int, memcmp(rgb[0], rgb[1], sizeof rgb[0]), 0));
    cr_assert(eq(int, rgb[0][0], 20 * 12)); /* red of person 12 */
    ff_decoder_destroy(decoder);
    ff_bin_pairs_close(pairs);
}

Test(bin_pairs, images_are_views_of_the_file)
{
    struct ff_bin_pairs *pairs = must_open("bytes_p4");
    const uint8_t *map = pairs->map;
    for (int i = 0; i < 26; i++)
        cr_assert(pairs->image[i].bytes > map &&
                  pairs->image[i].bytes + pairs->image[i].size <
                      map + pairs->map_bytes);
    ff_bin_pairs_close(pairs);
}

Test(bin_pairs, an_object_used_twice_comes_from_the_memo)
{
    struct ff_bin_pairs *pairs = must_open("shared_p4");
    cr_assert(eq(ptr, (void *)pairs->image[3].bytes, (void *)pairs->image[0].bytes));
    cr_assert(ne(ptr, (void *)pairs->image[2].bytes, (void *)pairs->image[0].bytes));
    ff_bin_pairs_close(pairs);
}

/* Small ones by hand: labels as numbers, tuples for lists, latin-1 beyond ASCII. */
Test(bin_pairs, small_pickles_by_hand)
{
    static const struct {
        const char *bytes;
        size_t size;
        const char *first;
    } cases[] = {
#define CASE(literal, first) {literal, sizeof(literal) - 1, first}
        CASE("\x80\x02]q\x00(U\x01"
             "aU\x01"
             "be]K\x01"
             "a\x86.",
             "a"),
        CASE("\x80\x03(C\x01"
             "aC\x01"
             "btI01\x86.",
             NULL),
        CASE("\x80\x04\x95\x10\0\0\0\0\0\0\0C\x01xC\x01y\x86\x94\x89\x85\x86\x94.   ",
             NULL),
        CASE("\x80\x02(c_codecs\nencode\nX\x03\0\0\0a\xc3\xbfX\x06\0\0\0latin1\x86R"
             "U\x01"
             "btM\x01\x00\x85\x86.",
             "a\xff"),
        CASE("\x80\x02(U\x02hiq\x01h\x01t\x8a\x01\x00\x85\x86.", "hi"),
        CASE("\x80\x02(c__builtin__\nbytearray\nU\x02yo\x85Rh\x00t\x88\x85\x86.", NULL),
#undef CASE
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ff_bin_pairs *pairs;
        struct ff_err err = FF_ERR_INIT;
        int rc = ff_bin_pairs_parse(&pairs, "x", (const uint8_t *)cases[i].bytes,
                                    cases[i].size, &err);
        cr_assert(eq(int, rc, cases[i].first ? 0 : FF_EDATA), "%zu: %s", i, err.text);
        if (!cases[i].first)
            continue;
        cr_assert(eq(i64, pairs->pairs, 1));
        cr_assert(eq(sz, pairs->image[0].size, strlen(cases[i].first)));
        cr_assert(
            eq(int, memcmp(pairs->image[0].bytes, cases[i].first, pairs->image[0].size),
               0));
        ff_bin_pairs_close(pairs);
    }
}

Test(bin_pairs, never_executes)
{
    REFUSES("\x80\x02"
            "cos\nsystem\nU\x04true\x85R.",
            "opcode 0x63 at offset 2: the name os.system is refused");
    REFUSES("\x80\x04\x8c\x08"
            "builtins\x8c\x04"
            "eval\x93.",
            "opcode 0x93 at offset 18: the name builtins.eval is refused");
    REFUSES("\x80\x02"
            "c\x1b[31m\na\tb\n.",
            "the name ?[31m.a?b is refused");
    REFUSES("\x80\x02"
            "(ios\nsystem\n.",
            "opcode 0x69 at offset 3: does not occur");
    REFUSES("\x80\x02)\x81.", "opcode 0x81 at offset 3: does not occur");
    REFUSES("\x80\x02}.", "opcode 0x7d at offset 2: does not occur");
    REFUSES("\x80\x05\x97.", "opcode 0x97 at offset 2: does not occur");
    REFUSES("\x80\x02U\x01"
            "a)R.",
            "a call of something else than a name");
    REFUSES("\x80\x02"
            "cnumpy\nndarray\n)R.",
            "a call of numpy.ndarray");
}

Test(bin_pairs, refuses_hostile_lengths)
{
    REFUSES("\x80\x04"
            "B\xff\xff\xff\xff"
            "a.",
            "opcode 0x42 at offset 2: wants 4294967295 bytes, the file ends after 2");
    REFUSES("\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff.",
            "wants 18446744073709551615 bytes");
    REFUSES("\x80\x02T\xff\xff\xff\xff.", "wants 4294967295 bytes");
    REFUSES("\x80\x04\x95\xff\0\0\0\0\0\0\0.", "a frame of 255 bytes");
    REFUSES("\x80\x02Nr\xff\xff\xff\x7f.", "memo index 2147483647 after 0 entries");
    REFUSES("\x80\x02j\xff\xff\xff\xff.", "memo index 4294967295 was never put");
    REFUSES("\x80\x02h\x00.", "memo index 0 was never put");
    REFUSES("\x80\x02Nq\x01h\x00.", "memo index 0 was never put");
    REFUSES("\x80\x02\x8a\x09\0\0\0\0\0\0\0\0\0.", "an integer of 9 bytes");
    /* the same text encoded twice must not grow: 5 + 5 of a file of 9 would be more */
    char text[1200] = "\x80\x02(X\x00\x04\x00\x00";
    size_t n = 8;
    memset(text + n, '\xc2', 1024);
    for (int i = 1; i < 1024; i += 2)
        text[n + (size_t)i] = '\xa0';
    n += 1024;
    const char head[] = "q\x00X\x06\0\0\0latin1q\x01\x30";
    memcpy(text + n, head, sizeof head - 2); /* without the POP */
    n += sizeof head - 2;
    const char call[] = "c_codecs\nencode\nh\x00h\x01\x86R";
    for (int k = 0; k < 2; k++) {
        memcpy(text + n, call, sizeof call - 1);
        n += sizeof call - 1;
    }
    refuses(text, n, "the encoded texts exceed the file");
    /* marks and stack */
    char many[70000] = "\x80\x02";
    memset(many + 2, '(', 80);
    refuses(many, 82, "more than 64 marks");
    memset(many + 2, 'N', sizeof many - 2);
    refuses(many, sizeof many, "more than 65536 values on the stack");
}

/* `unit` repeated `count` times between two texts. */
static void refuses_many(const char *head, const char *unit, size_t count,
                         const char *wanted)
{
    size_t n = strlen(head), step = strlen(unit);
    char *text = malloc(n + count * step);
    memcpy(text, head, n);
    for (size_t i = 0; i < count; i++)
        memcpy(text + n + i * step, unit, step);
    refuses(text, n + count * step, wanted);
    free(text);
}

Test(bin_pairs, bounds_what_a_file_can_make)
{
    char items[60003];
    refuses_many("\x80\x02]", ")a", 600000,
                 "more than 524288 lists, tuples and arrays");
    refuses_many("\x80\x04N", "\x94", 1100000, "memo index 1048576 after 1048576");
    memset(items, 'N', sizeof items);
    items[0] = '(';
    items[60001] = 'e';
    items[60002] = 0;
    refuses_many("\x80\x02]", items, 18, "more than 1048576 items");
}

Test(bin_pairs, refuses_a_machine_out_of_step)
{
    REFUSES("\x80\x02\x86.", "opcode 0x86 at offset 2: the stack is short of values");
    REFUSES("\x80\x02N(\x85.", "the stack is short of values"); /* not below the mark */
    REFUSES("\x80\x02t.", "there is no mark");
    REFUSES("\x80\x02(e.", "there is no list to append to");
    REFUSES("\x80\x02NNa.", "there is no list to append to");
    REFUSES("\x80\x02](Na.", "the stack is short of values");
    REFUSES("\x80\x02NN.", "2 values on the stack at the end");
    REFUSES("\x80\x02(.", "on the stack at the end");
    REFUSES("\x80\x02N.N", "1 bytes follow the end");
    REFUSES("\x80\x02NNb.", "a state that is no tuple");
    REFUSES("\x80\x02N)b.", "an unknown state");
    REFUSES("\x80\x04NN\x93.", "a name that is no text");
}

Test(bin_pairs, refuses_other_arrays)
{
#define DTYPE(t) "cnumpy\ndtype\nU\x02" t "\x89\x88\x87R"
#define FROM                                                                           \
    "\x80\x05"                                                                         \
    "cnumpy.core.numeric\n_frombuffer\n(C\x04"                                         \
    "abcd"
    REFUSES("\x80\x02" DTYPE("f4") ".", "a numpy type other than uint8 and bool");
    REFUSES(FROM DTYPE("b1") "K\x04\x85U\x01"
                             "CtR.",
            "a numpy array of another type than uint8");
    REFUSES(FROM DTYPE("u1") "K\x05\x85U\x01"
                             "CtR.",
            "5 elements with 4 bytes");
    REFUSES(FROM DTYPE("u1") "K\x02K\x02\x86U\x01"
                             "CtR.",
            "several dimensions");
    REFUSES(FROM DTYPE("u1") "J\xff\xff\xff\xff\x85U\x01"
                             "CtR.",
            "no length");
    REFUSES(FROM DTYPE("u1") "K\x04\x85U\x01"
                             "KtR.",
            "unknown arguments");
    REFUSES(FROM "NK\x04\x85U\x01"
                 "CtR.",
            "other than shape, dtype and bytes");
    REFUSES("\x80\x02(cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85"
            "U\x01"
            "b\x87RU\x01xt\x88\x85\x86.",
            "image 0 is neither bytes nor a numpy array"); /* never built */
}

Test(bin_pairs, refuses_other_scalars)
{
#define SCALAR                                                                         \
    "\x80\x02"                                                                         \
    "cnumpy.core.multiarray\nscalar\n"
    REFUSES(SCALAR DTYPE("u1") "U\x01\1\x86R.", "a numpy scalar that is no bool");
    REFUSES(SCALAR DTYPE("b1") "U\x01\2\x86R.", "a numpy scalar that is no bool");
    REFUSES(SCALAR DTYPE("b1") "U\x02\1\1\x86R.", "a numpy scalar that is no bool");
    REFUSES(SCALAR DTYPE("b1") "U\x00\x86R.", "a numpy scalar that is no bool");
    REFUSES(SCALAR DTYPE("b1") "K\x01\x86R.", "a numpy scalar that is no bool");
    REFUSES(SCALAR DTYPE("b1") "\x85R.", "a numpy scalar that is no bool");
    REFUSES(SCALAR "NU\x01\1\x86R.", "a numpy scalar that is no bool");
}

Test(bin_pairs, refuses_other_values)
{
    REFUSES("", "is no pickle");
    REFUSES("\x80", "is no pickle");
    REFUSES("\xff\xd8\xff\xe0", "is no pickle of protocol 2 to 5");
    REFUSES("\x80\x01N.", "pickle protocol 1; 2 to 5 are read");
    REFUSES("\x80\x06N.", "pickle protocol 6");
    REFUSES("\x80\x02N.", "is no pair of a list of images and one of labels");
    REFUSES("\x80\x02]]]\x87.", "is no pair of a list");
    REFUSES("\x80\x02]]\x86.", "0 images and 0 labels");
    REFUSES("\x80\x02U\x01"
            "aU\x01"
            "b\x86\x88\x88\x86\x86.",
            "2 images and 2 labels; two images a label are wanted");
    REFUSES("\x80\x02U\x01"
            "aU\x00\x86\x88\x85\x86.",
            "image 1 is empty");
    REFUSES("\x80\x02U\x01"
            "aX\x01\0\0\0b\x86\x88\x85\x86.",
            "image 1 is neither");
    REFUSES("\x80\x02U\x01"
            "aU\x01"
            "b\x86K\x02\x85\x86.",
            "label 0 is neither True nor False");
    REFUSES("\x80\x02U\x01"
            "aU\x01"
            "b\x86N\x85\x86.",
            "label 0 is neither");
    REFUSES("\x80\x02(c_codecs\nencode\nX\x02\0\0\0\xc4\x80X\x06\0\0\0latin1\x86R.",
            "a text that is not latin-1 at its byte 0");
}

Test(bin_pairs, a_cut_file_is_refused_wherever_it_is_cut)
{
    static const char *const names[] = {"bytearray_p2", "numpy_python2", "numpy_p5",
                                        "bytes_p4"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        char path[256], *bytes;
        size_t size;
        struct ff_bin_pairs *pairs;
        struct ff_err err = FF_ERR_INIT;
        snprintf(path, sizeof path, FOLDER "%s.bin", names[k]);
        cr_assert(eq(int, ff_read_file(&bytes, &size, path, &err), 0), "%s", err.text);
        for (size_t cut = 0; cut < size; cut++) {
            uint8_t *copy = malloc(cut ? cut : 1);
            memcpy(copy, bytes, cut);
            cr_assert(
                eq(int, ff_bin_pairs_parse(&pairs, "x", copy, cut, &err), FF_EDATA),
                "%s cut at %zu", names[k], cut);
            free(copy);
        }
        free(bytes);
    }
}

Test(bin_pairs, files_that_are_none)
{
    struct ff_bin_pairs *pairs;
    struct ff_err err = FF_ERR_INIT;
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, "/no/lfw.bin", &err), FF_EUSAGE));
    cr_assert(eq(str, err.text, "/no/lfw.bin: No such file or directory"));
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, "/dev/null", &err), FF_EDATA));
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, "tests", &err), FF_EDATA));
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, FOLDER "odd.bin", &err), FF_EDATA));
    cr_assert(eq(str, err.text,
                 FOLDER
                 "odd.bin: 5 images and 3 labels; two images a label are wanted"));
    cr_assert(eq(int, ff_bin_pairs_open(&pairs, FOLDER "refused.bin", &err), FF_EDATA));
    cr_assert(ne(ptr, strstr(err.text, "the name _codecs.lookup is refused"), NULL),
              "%s", err.text);
    cr_assert(eq(ptr, pairs, NULL));
}
