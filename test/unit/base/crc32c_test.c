#include "base/crc32c.h"

#include "test.h"

/* The check value of the CRC catalogue and two vectors of RFC 3720, B.4. */
TEST_CASE(known_vectors)
{
    uint8_t zeros[32] = {0};
    uint8_t rising[32];
    for (int i = 0; i < 32; i++) rising[i] = (uint8_t)i;

    EXPECT(crc32c(0, "123456789", 9) == 0xe3069283);
    EXPECT(crc32c(0, zeros, sizeof zeros) == 0x8a9136aa);
    EXPECT(crc32c(0, rising, sizeof rising) == 0x46dd794e);
}

TEST_CASE(a_sum_can_be_continued_anywhere)
{
    const char text[] = "the quick brown fox jumps over the lazy dog";
    uint32_t whole = crc32c(0, text, sizeof text);

    for (size_t cut = 0; cut <= sizeof text; cut++)
        EXPECT(crc32c(crc32c(0, text, cut), text + cut, sizeof text - cut) == whole);
}

TEST_MAIN(TEST(known_vectors), TEST(a_sum_can_be_continued_anywhere))
