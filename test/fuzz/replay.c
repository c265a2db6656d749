/* Gives each file of a directory, and nothing at all, to a fuzz target once. */
#include <dirent.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void die(const char *what)
{
    perror(what);
    exit(1);
}

/* The input lies in a block of exactly its size: a sanitizer sees the first byte beyond. */
static void replay(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) die(path);
    if (fseek(file, 0, SEEK_END) != 0) die(path);
    long size = ftell(file);
    if (size < 0) die(path);
    rewind(file);

    uint8_t *data = malloc((size_t)size);
    if (data == NULL && size > 0) die(path);
    if (fread(data, 1, (size_t)size, file) != (size_t)size) die(path);
    fclose(file);
    LLVMFuzzerTestOneInput(data, (size_t)size);
    free(data);
}

int main(int argument_count, char **arguments)
{
    LLVMFuzzerTestOneInput((const uint8_t *)"", 0);

    /* A target without seeds has no directory. */
    DIR *directory = argument_count > 1 ? opendir(arguments[1]) : NULL;
    if (directory == NULL) return 0;

    unsigned count = 0;
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        if (entry->d_name[0] == '.') continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", arguments[1], entry->d_name);
        replay(path);
        count++;
    }
    closedir(directory);
    printf("%u seeds\n", count);
    return 0;
}
