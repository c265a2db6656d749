#include "base/nearest.h"

#include <string.h>

#include "test.h"

static size_t distance(const char *a, const char *b)
{
    return nearest_distance(slice_from_text(a), slice_from_text(b));
}

TEST_CASE(distances_count_edits)
{
    EXPECT(distance("", "") == 0);
    EXPECT(distance("", "abc") == 3);
    EXPECT(distance("http", "htpp") == 1);
    EXPECT(distance("http", "htp") == 1);
    EXPECT(distance("http", "thtp") == 1);
    EXPECT(distance("search", "serach") == 1);
    EXPECT(distance("kitten", "sitting") == 3);
}

TEST_CASE(the_nearest_name_is_near)
{
    static const char *const names[] = {"search", "add", "status", "export", "import"};
    EXPECT(strcmp(nearest_name(SLICE_LITERAL("serach"), names, 5), "search") == 0);
    EXPECT(strcmp(nearest_name(SLICE_LITERAL("stat"), names, 5), "status") == 0);
    EXPECT(strcmp(nearest_name(SLICE_LITERAL("ad"), names, 5), "add") == 0);
    EXPECT(strcmp(nearest_name(SLICE_LITERAL("inport"), names, 5), "import") == 0);
    EXPECT(nearest_name(SLICE_LITERAL("zzz"), names, 5) == NULL);
    EXPECT(nearest_name(SLICE_LITERAL(""), names, 5) == NULL);
    char longer[100];
    memset(longer, 'x', sizeof longer);
    EXPECT(nearest_name(slice_of(longer, sizeof longer), names, 5) == NULL);
}

TEST_MAIN(TEST(distances_count_edits), TEST(the_nearest_name_is_near))
