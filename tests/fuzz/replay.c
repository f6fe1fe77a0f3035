/*
 * replay.c - a main for a fuzz target without a fuzzer: runs every file of the folders it is given, and then so many changed
 * ones, always the same. For compilers without libFuzzer, and for the quick run of the tests.
 *
 *     replay ROUNDS FOLDER...
 */
#include "fuzz.h"

#include <dirent.h>

#define MAX_SIZE 65536u
#define MAX_FILES 1024u

static struct input {
    uint8_t *data;
    size_t size;
} inputs[MAX_FILES];
static size_t count;

static void read_file(const char *folder, const char *name)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    uint8_t *data = malloc(MAX_SIZE);
    REQUIRE(file != NULL && data != NULL && count < MAX_FILES);
    inputs[count++] = (struct input){data, fread(data, 1, MAX_SIZE, file)};
    (void)fclose(file);
}

static void read_folder(const char *folder)
{
    DIR *entries = opendir(folder);
    REQUIRE(entries != NULL);
    for (const struct dirent *entry; (entry = readdir(entries)) != NULL;) {
        if (entry->d_name[0] != '.') {
            read_file(folder, entry->d_name);
        }
    }
    (void)closedir(entries);
}

/* The generator of Marsaglia, xorshift64: the same changes in every run. */
static uint64_t state = 88172645463325252u;

static size_t below(size_t limit)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return limit == 0 ? 0 : (size_t)(state % limit);
}

/* One change: a byte, a cut, a piece of another input, a piece twice. */
static size_t change(uint8_t *data, size_t size)
{
    const struct input *other = &inputs[below(count)];
    size_t at = below(size + 1), len = below(17);
    switch (below(5)) {
    case 0:
        if (at < size) {
            data[at] = (uint8_t)below(256);
        }
        return size;
    case 1:
        if (at < size) {
            data[at] = (uint8_t)(data[at] ^ (1u << below(8)));
        }
        return size;
    case 2:
        return at;
    case 3:
        len = len < other->size ? len : other->size;
        if (at + len <= size) {
            memcpy(data + at, other->data + below(other->size - len + 1), len);
        }
        return size;
    default:
        len = len < size - at ? len : size - at;
        if (size + len <= MAX_SIZE) {
            memmove(data + at + len, data + at, size - at);
            return size + len;
        }
        return size;
    }
}

/* In memory of exactly that size, so that a sanitizer sees what reads beyond. */
static void run(const uint8_t *data, size_t size)
{
    uint8_t *exact = malloc(size + (size == 0));
    REQUIRE(exact != NULL);
    memcpy(exact, data, size);
    (void)LLVMFuzzerTestOneInput(exact, size);
    free(exact);
}

int main(int argc, char **argv)
{
    REQUIRE(argc >= 3);
    for (int i = 2; i < argc; i++) {
        read_folder(argv[i]);
    }
    REQUIRE(count > 0);
    for (size_t i = 0; i < count; i++) {
        run(inputs[i].data, inputs[i].size);
    }
    static uint8_t changed[MAX_SIZE];
    long rounds = strtol(argv[1], NULL, 10);
    for (long round = 0; round < rounds; round++) {
        const struct input *input = &inputs[below(count)];
        size_t size = input->size;
        memcpy(changed, input->data, size);
        for (size_t changes = 1 + below(8); changes > 0; changes--) {
            size = change(changed, size);
        }
        run(changed, size);
    }
    for (size_t i = 0; i < count; i++) {
        free(inputs[i].data);
    }
    (void)printf("%zu inputs, %ld changed ones\n", count, rounds);
    return 0;
}
