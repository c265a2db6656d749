/* Suggests words as a search box would: suggest URL[,URL...] PREFIX */
#include <trifecta.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { URLS_MAX = 64 };

static size_t split(char *text, const char **urls)
{
    size_t count = 0;
    for (char *rest = text, *url; count < URLS_MAX && (url = strsep(&rest, ",")) != NULL;) {
        urls[count++] = url;
    }
    return count;
}

static int print_best(struct trifecta_client *client, const char *prefix)
{
    struct trifecta_call call = {.timeout_ms = 5000};
    struct trifecta_query query = {.limit = 5};
    struct trifecta_page *page;
    enum trifecta_error error =
        trifecta_search(client, &call, trifecta_text(prefix), &query, &page);
    if (error != TRIFECTA_OK) {
        fprintf(stderr, "suggest: %s: %s\n", trifecta_error_name(error), call.problem.detail);
        return EXIT_FAILURE;
    }
    for (size_t i = 0; i < page->count; i++) {
        struct trifecta_bytes word = page->entries[i].word;
        fwrite(word.data, 1, word.size, stdout);
        printf("\t%g\n", page->entries[i].attributes.score);
    }
    trifecta_page_free(page);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "usage: suggest URL[,URL...] PREFIX\n");
        return 2;
    }
    const char *urls[URLS_MAX];
    struct trifecta_options options = {.urls = urls, .url_count = split(argv[1], urls)};
    struct trifecta_client *client;
    if (trifecta_open(&options, &client) != TRIFECTA_OK) return EXIT_FAILURE;
    int code = print_best(client, argv[2]);
    trifecta_close(client);
    return code;
}
