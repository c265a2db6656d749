/* The authority of a cluster: a directory with its key, and what it issues for nodes. */
#include "cmd/cli.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "shell/certificate.h"

enum { CA_DAYS };

enum { PATH_BYTES = 4096, FILE_BYTES_MAX = 1 << 20, KEY_MODE = 0600, CERTIFICATE_MODE = 0644 };

static const char authority_name[] = "ca";

/* A certificate and its key: where they are, and what is in them. */
struct pair {
    char certificate_path[PATH_BYTES], key_path[PATH_BYTES];
    struct buf certificate, key;
};

__attribute__((format(printf, 2, 3))) static enum cli_exit fail(const struct cli *cli,
                                                                const char *format, ...)
{
    char detail[2 * PATH_BYTES];
    va_list list;
    va_start(list, format);
    vsnprintf(detail, sizeof detail, format, list);
    va_end(list);
    if (cli->json) {
        json_t *object = json_pack("{s:s, s:o}", "error", "failed", "detail",
                                   cli_json_of(slice_from_text(detail)));
        json_dumpf(object, stdout, JSON_COMPACT);
        json_decref(object);
        putchar('\n');
    } else {
        fprintf(stderr, "trifecta: %s\n", detail);
    }
    return CLI_FAILED;
}

/* --- Files --- */

static bool pair_init(struct cli *cli, struct pair *pair, const char *directory, const char *name)
{
    buf_init(&pair->certificate, &cli->heap);
    buf_init(&pair->key, &cli->heap);
    int size = snprintf(pair->certificate_path, sizeof pair->certificate_path, "%s/%s.crt",
                        directory, name);
    snprintf(pair->key_path, sizeof pair->key_path, "%s/%s.key", directory, name);
    return size < PATH_BYTES;
}

static void pair_deinit(struct pair *pair)
{
    if (pair->key.data != NULL) explicit_bzero(pair->key.data, pair->key.size);
    buf_deinit(&pair->certificate);
    buf_deinit(&pair->key);
}

static enum cli_exit read_file(struct cli *cli, const char *path, struct buf *out)
{
    FILE *file = fopen(path, "rb");
    if (file == NULL) return fail(cli, "%s: cannot be read: %s", path, strerror(errno));
    uint8_t *to = buf_reserve(out, FILE_BYTES_MAX + 1);
    size_t size = to == NULL ? 0 : fread(to, 1, FILE_BYTES_MAX + 1, file);
    int error = ferror(file) != 0 ? errno : 0;
    fclose(file);
    if (to == NULL) return fail(cli, "%s: no memory", path);
    if (error != 0) return fail(cli, "%s: cannot be read: %s", path, strerror(error));
    if (size > FILE_BYTES_MAX)
        return fail(cli, "%s: expected at most %d bytes", path, FILE_BYTES_MAX);
    buf_commit(out, size);
    return CLI_DONE;
}

/* Writes a file that is not there yet; what was begun is removed when that fails. */
static enum cli_exit write_file(struct cli *cli, const char *path, mode_t mode, struct slice bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0 && errno == EEXIST)
        return fail(cli, "%s: is there already; nothing is overwritten", path);
    if (fd < 0) return fail(cli, "%s: cannot be made: %s", path, strerror(errno));
    size_t at = 0;
    ssize_t written = 0;
    while (at < bytes.size && (written = write(fd, bytes.data + at, bytes.size - at)) > 0)
        at += (size_t)written;
    int error = at < bytes.size || fsync(fd) != 0 ? errno : 0;
    if (close(fd) != 0 && error == 0) error = errno;
    if (error == 0) return CLI_DONE;
    unlink(path);
    return fail(cli, "%s: cannot be written: %s", path, strerror(error));
}

static void sync_directory(const char *path)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

/* The key first: a certificate without its key would be of no use. */
static enum cli_exit write_pair(struct cli *cli, const char *directory, const struct pair *pair)
{
    if (access(pair->certificate_path, F_OK) == 0)
        return fail(cli, "%s: is there already; nothing is overwritten", pair->certificate_path);
    enum cli_exit code = write_file(cli, pair->key_path, KEY_MODE, buf_slice(&pair->key));
    if (code != CLI_DONE) return code;
    code = write_file(cli, pair->certificate_path, CERTIFICATE_MODE, buf_slice(&pair->certificate));
    if (code != CLI_DONE) unlink(pair->key_path);
    sync_directory(directory);
    return code;
}

/* --- What a certificate says --- */

static json_t *json_of_facts(const struct certificate_facts *facts)
{
    char begin[CERTIFICATE_TIME_BYTES], end[CERTIFICATE_TIME_BYTES];
    certificate_time_text(facts->period.begin_s, begin);
    certificate_time_text(facts->period.end_s, end);
    return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "subject", facts->subject,
                     "issuer", facts->issuer, "role", certificate_role_name(facts->role),
                     "valid_from", begin, "valid_until", end, "key_type", facts->key, "serial",
                     facts->serial, "sha256", facts->fingerprint);
}

static void print_facts(const struct certificate_facts *facts)
{
    char begin[CERTIFICATE_TIME_BYTES], end[CERTIFICATE_TIME_BYTES];
    long long now = (long long)time(NULL), left = (long long)facts->period.end_s - now;
    certificate_time_text(facts->period.begin_s, begin);
    certificate_time_text(facts->period.end_s, end);
    printf("subject      %s\nissuer       %s\nrole         %s\n", facts->subject, facts->issuer,
           certificate_role_name(facts->role));
    printf("valid from   %s%s\n", begin, facts->period.begin_s > now ? " (not yet)" : "");
    printf("valid until  %s ", end);
    if (left >= 0)
        printf("(%lld days)\n", left / CERTIFICATE_DAY_S);
    else
        printf("(expired)\n");
    printf("key          %s\nserial       %s\nsha256       %s\n", facts->key, facts->serial,
           facts->fingerprint);
}

static enum cli_exit print_json(json_t *object)
{
    bool printed = object != NULL && json_dumpf(object, stdout, JSON_COMPACT) == 0;
    json_decref(object);
    putchar('\n');
    return printed ? CLI_DONE : CLI_FAILED;
}

/* Says what was made. */
static enum cli_exit print_pair(struct cli *cli, const struct pair *pair, const char *key_note)
{
    struct certificate_facts facts;
    if (certificate_read(buf_slice(&pair->certificate), 0, &facts) != STATUS_OK)
        return fail(cli, "%s: cannot be read back", pair->certificate_path);
    if (cli->json) {
        json_t *object = json_of_facts(&facts);
        json_object_set_new(object, "certificate",
                            cli_json_of(slice_from_text(pair->certificate_path)));
        json_object_set_new(object, "key", cli_json_of(slice_from_text(pair->key_path)));
        return print_json(object);
    }
    printf("certificate  %s\nkey file     %s (%s)\n", pair->certificate_path, pair->key_path,
           key_note);
    print_facts(&facts);
    return CLI_DONE;
}

/* --- Commands --- */

/* From an hour ago, for clocks that are behind, to so many days from now. */
static struct certificate_period period_of(uint64_t days)
{
    int64_t now = (int64_t)time(NULL);
    return (struct certificate_period){
        now - CERTIFICATE_BACKDATE_S,
        now + (int64_t)days * CERTIFICATE_DAY_S,
    };
}

static enum cli_exit init(struct cli *cli, const char *directory, uint64_t days)
{
    struct pair pair;
    bool fits = pair_init(cli, &pair, directory, authority_name);
    enum cli_exit code = CLI_DONE;
    if (!fits || (mkdir(directory, 0700) != 0 && errno != EEXIST))
        code = fail(cli, "%s: cannot be made: %s", directory,
                    fits ? strerror(errno) : "the name is too long");
    if (code == CLI_DONE &&
        certificate_make_authority(period_of(days), &pair.certificate, &pair.key) != STATUS_OK)
        code = fail(cli, "no memory for a key");
    if (code == CLI_DONE) code = write_pair(cli, directory, &pair);
    if (code == CLI_DONE)
        code = print_pair(cli, &pair, "it makes nodes: keep it away from them, and safe");
    pair_deinit(&pair);
    return code;
}

/* `days` 0: as many as are usual and the authority has left. */
static enum cli_exit issue_by(struct cli *cli, const struct pair *authority, struct pair *pair,
                              const char *name, uint64_t days)
{
    struct certificate_facts facts;
    const char *why = "expected a certificate in PEM";
    enum status status = certificate_read(buf_slice(&authority->certificate), 0, &facts);
    if (status != STATUS_OK) return fail(cli, "%s: %s", authority->certificate_path, why);
    struct certificate_period period = period_of(days == 0 ? CERTIFICATE_NODE_DAYS : days);
    if (facts.period.end_s < (int64_t)time(NULL))
        return fail(cli, "%s: the authority has expired; make another in a new directory",
                    authority->certificate_path);
    if (days == 0 && period.end_s > facts.period.end_s) period.end_s = facts.period.end_s;
    status = certificate_issue(buf_slice(&authority->certificate), buf_slice(&authority->key), name,
                               CERTIFICATE_NODE, period, &pair->certificate, &pair->key, &why);
    if (status == STATUS_INVALID)
        return fail(cli, "%s with %s: %s", authority->certificate_path, authority->key_path, why);
    return status == STATUS_OK ? CLI_DONE : fail(cli, "no memory for a key");
}

static enum cli_exit issue(struct cli *cli, const char *directory, const char *name, uint64_t days)
{
    struct pair authority, pair;
    if (!certificate_name_fits(name) || strcmp(name, authority_name) == 0)
        return cli_usage_error("ca issue: '%s' is not a name of 1 to %d of A-Z a-z 0-9 _ . - that "
                               "begins with a letter or digit, and not '%s'",
                               name, CERTIFICATE_NAME_BYTES_MAX, authority_name);
    bool fits = pair_init(cli, &authority, directory, authority_name);
    fits = pair_init(cli, &pair, directory, name) && fits;
    enum cli_exit code = fits ? CLI_DONE : fail(cli, "%s: the name is too long", directory);
    if (code == CLI_DONE) code = read_file(cli, authority.certificate_path, &authority.certificate);
    if (code == CLI_DONE) code = read_file(cli, authority.key_path, &authority.key);
    if (code == CLI_DONE) code = issue_by(cli, &authority, &pair, name, days);
    if (code == CLI_DONE) code = write_pair(cli, directory, &pair);
    if (code == CLI_DONE) code = print_pair(cli, &pair, "for this node alone");
    pair_deinit(&authority);
    pair_deinit(&pair);
    return code;
}

static enum cli_exit show(struct cli *cli, const char *path)
{
    struct buf bytes;
    struct certificate_facts facts;
    enum status status = STATUS_END;
    json_t *list = json_array();
    size_t count = 0;
    buf_init(&bytes, &cli->heap);
    enum cli_exit code = read_file(cli, path, &bytes);
    while (code == CLI_DONE &&
           (status = certificate_read(buf_slice(&bytes), count, &facts)) == STATUS_OK) {
        if (!cli->json && count > 0) putchar('\n');
        if (!cli->json) print_facts(&facts);
        json_array_append_new(list, json_of_facts(&facts));
        count++;
    }
    if (code == CLI_DONE && (status != STATUS_END || count == 0))
        code = fail(cli, "%s: expected certificates in PEM; number %zu is none", path, count + 1);
    if (code == CLI_DONE && cli->json)
        code = print_json(json_pack("{s:o, s:O}", "file", cli_json_of(slice_from_text(path)),
                                    "certificates", list));
    json_decref(list);
    buf_deinit(&bytes);
    return code;
}

enum cli_exit cli_ca(struct cli *cli, const struct cli_arguments *arguments)
{
    const char *const *words = arguments->words;
    const char *days_text = arguments->flags[CA_DAYS];
    uint64_t days = 0;
    if (days_text != NULL && !cli_number("--days", days_text, 1, CERTIFICATE_DAYS_MAX, &days))
        return CLI_USAGE;
    if (strcmp(words[0], "init") == 0 && arguments->word_count == 2)
        return init(cli, words[1], days == 0 ? CERTIFICATE_AUTHORITY_DAYS : days);
    if (strcmp(words[0], "issue") == 0 && arguments->word_count == 3)
        return issue(cli, words[1], words[2], days);
    if (strcmp(words[0], "show") == 0 && arguments->word_count == 2 && days_text == NULL)
        return show(cli, words[1]);
    return cli_usage_error("usage: trifecta ca init DIR, ca issue DIR NAME, or ca show FILE");
}
