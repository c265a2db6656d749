/* An authority and what it issues, as PEM. */
#include "shell/certificate.h"

#include <string.h>
#include <time.h>

#include "test.h"

struct pair {
    struct buf certificate, key;
};

static struct heap heap;

/* Times are days from now. */
static struct certificate_period days(int64_t begin, int64_t end)
{
    int64_t now = (int64_t)time(NULL);
    return (struct certificate_period){now + begin * CERTIFICATE_DAY_S,
                                       now + end * CERTIFICATE_DAY_S};
}

static struct pair pair_make(void)
{
    return (struct pair){{.heap = &heap}, {.heap = &heap}};
}

static void pair_deinit(struct pair *pair)
{
    buf_deinit(&pair->certificate);
    buf_deinit(&pair->key);
}

static struct pair authority_make(struct certificate_period period)
{
    struct pair authority = pair_make();
    EXPECT(certificate_make_authority(period, &authority.certificate, &authority.key) == STATUS_OK);
    return authority;
}

static enum status issue_by(const struct pair *authority, const char *name,
                            enum certificate_role role, struct certificate_period period,
                            struct pair *out, const char **why)
{
    return certificate_issue(buf_slice(&authority->certificate), buf_slice(&authority->key), name,
                             role, period, &out->certificate, &out->key, why);
}

TEST_CASE(an_authority_issues_for_nodes)
{
    static const enum certificate_role roles[] = {CERTIFICATE_NODE, CERTIFICATE_OTHER};
    struct certificate_facts facts, issued;
    struct certificate_period period = days(-3, 30);
    const char *why = NULL;
    heap_init(&heap, 0);
    struct pair authority = authority_make(days(-3, 300));
    EXPECT(certificate_read(buf_slice(&authority.certificate), 0, &facts) == STATUS_OK);
    EXPECT(facts.role == CERTIFICATE_AUTHORITY && strcmp(facts.subject, facts.issuer) == 0);
    EXPECT(strncmp(facts.subject, "CN=trifecta authority ", 22) == 0);
    EXPECT(strlen(facts.fingerprint) == 95 && strlen(facts.serial) == 32);
    for (size_t i = 0; i < 2; i++) {
        struct pair node = pair_make();
        EXPECT(issue_by(&authority, "n1", roles[i], period, &node, &why) == STATUS_OK);
        EXPECT(certificate_read(buf_slice(&node.certificate), 0, &issued) == STATUS_OK);
        EXPECT(issued.role == roles[i] && strcmp(issued.issuer, facts.subject) == 0);
        EXPECT(strcmp(issued.subject, "CN=n1") == 0 && strcmp(issued.key, "P-256") == 0);
        EXPECT(issued.period.begin_s == period.begin_s && issued.period.end_s == period.end_s);
        EXPECT(strcmp(issued.fingerprint, facts.fingerprint) != 0);
        EXPECT(memmem(node.key.data, node.key.size, "BEGIN PRIVATE KEY", 17) != NULL);
        pair_deinit(&node);
    }
    pair_deinit(&authority);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(each_authority_and_key_is_another)
{
    struct certificate_facts facts[2];
    heap_init(&heap, 0);
    struct pair one = authority_make(days(0, 1)), two = authority_make(days(0, 1));
    EXPECT(certificate_read(buf_slice(&one.certificate), 0, &facts[0]) == STATUS_OK);
    EXPECT(certificate_read(buf_slice(&two.certificate), 0, &facts[1]) == STATUS_OK);
    EXPECT(strcmp(facts[0].subject, facts[1].subject) != 0);
    EXPECT(strcmp(facts[0].serial, facts[1].serial) != 0);
    EXPECT(!slice_equal(buf_slice(&one.key), buf_slice(&two.key)));
    pair_deinit(&one);
    pair_deinit(&two);
}

TEST_CASE(who_cannot_issue_says_what_was_expected)
{
    heap_init(&heap, 0);
    const char *why = "";
    struct pair one = authority_make(days(-3, 100)), two = authority_make(days(-3, 100));
    struct pair node = pair_make(), none = pair_make();
    EXPECT(issue_by(&one, "n1", CERTIFICATE_NODE, days(0, 50), &node, &why) == STATUS_OK);
    size_t size = node.certificate.size;
    const struct {
        struct pair authority;
        int64_t end_days;
        const char *why;
    } cases[] = {
        {{one.certificate, two.key}, 50, "the key that the certificate was made with"},
        {{one.certificate, one.certificate}, 50, "a private key in PEM"},
        {{one.key, one.key}, 50, "a certificate in PEM"},
        {none, 50, "a certificate in PEM"},
        {node, 50, "the certificate of an authority"},
        {one, 101, "a shorter time"},
        {one, -4, "a shorter time"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT(issue_by(&cases[i].authority, "n2", CERTIFICATE_NODE, days(-5, cases[i].end_days),
                        &none, &why) == STATUS_INVALID);
        EXPECT(strstr(why, cases[i].why) != NULL);
        EXPECT(none.certificate.size == 0 && none.key.size == 0);
    }
    EXPECT(node.certificate.size == size);
    pair_deinit(&one);
    pair_deinit(&two);
    pair_deinit(&node);
}

TEST_CASE(names_are_plain)
{
    char name[CERTIFICATE_NAME_BYTES_MAX + 2];
    EXPECT(certificate_name_fits("n1") && certificate_name_fits("0_a.B-c"));
    EXPECT(!certificate_name_fits("") && !certificate_name_fits(".a") &&
           !certificate_name_fits("-a"));
    EXPECT(!certificate_name_fits("a/b") && !certificate_name_fits("a b") &&
           !certificate_name_fits("\xc3\xa4"));
    memset(name, 'a', sizeof name);
    name[CERTIFICATE_NAME_BYTES_MAX + 1] = '\0';
    EXPECT(!certificate_name_fits(name));
    name[CERTIFICATE_NAME_BYTES_MAX] = '\0';
    EXPECT(certificate_name_fits(name));
}

TEST_CASE(files_may_hold_several_and_what_is_damaged_is_none)
{
    struct certificate_facts facts;
    heap_init(&heap, 0);
    struct pair one = authority_make(days(0, 1)), two = authority_make(days(0, 1));
    struct buf all = {.heap = &heap};
    buf_append_text(&all, "Words before it.\n");
    buf_append_slice(&all, buf_slice(&one.key));
    buf_append_slice(&all, buf_slice(&one.certificate));
    buf_append_slice(&all, buf_slice(&two.certificate));
    EXPECT(certificate_read(buf_slice(&all), 0, &facts) == STATUS_OK);
    EXPECT(certificate_read(buf_slice(&all), 1, &facts) == STATUS_OK);
    EXPECT(certificate_read(buf_slice(&all), 2, &facts) == STATUS_END);
    EXPECT(certificate_read(buf_slice(&one.key), 0, &facts) == STATUS_END);

    /* Each truncation, and each bit flipped, which a certificate alone does not show by itself. */
    struct buf *bytes = &one.certificate;
    for (size_t size = 0; size + 2 < bytes->size; size++)
        EXPECT(certificate_read(slice_of(bytes->data, size), 0, &facts) != STATUS_OK);
    for (size_t bit = 0; bit < bytes->size * 8; bit++) {
        bytes->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        enum status status = certificate_read(buf_slice(bytes), 0, &facts);
        EXPECT(status == STATUS_OK || status == STATUS_INVALID || status == STATUS_END);
        bytes->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    buf_deinit(&all);
    pair_deinit(&one);
    pair_deinit(&two);
    EXPECT(heap_used_bytes(&heap) == 0);
}

TEST_CASE(times_are_utc)
{
    char text[CERTIFICATE_TIME_BYTES];
    certificate_time_text(0, text);
    EXPECT(strcmp(text, "1970-01-01T00:00:00Z") == 0);
    certificate_time_text(1795755006, text);
    EXPECT(strcmp(text, "2026-11-27T04:50:06Z") == 0);
}

TEST_MAIN(TEST(an_authority_issues_for_nodes), TEST(each_authority_and_key_is_another),
          TEST(who_cannot_issue_says_what_was_expected), TEST(names_are_plain),
          TEST(files_may_hold_several_and_what_is_damaged_is_none), TEST(times_are_utc))
