#include "cluster/register_acceptor.h"

#include "base/check.h"
#include "base/planted.h"

enum status acceptor_prepare(struct acceptor *acceptor, struct ballot ballot)
{
    if (ballot_compare(ballot, acceptor->promised) < 0) return STATUS_STALE;
    if (ballot_equal(ballot, acceptor->accepted)) return STATUS_EXISTS;
    acceptor->promised = ballot;
    return STATUS_OK;
}

struct register_value acceptor_value(const struct acceptor *acceptor)
{
    CHECK(!ballot_is_none(acceptor->accepted));
    struct reader reader = reader_of(buf_slice(&acceptor->value));
    struct register_value value = register_value_read(&reader);
    CHECK(!reader.failed);
    return value;
}

enum status acceptor_accept(struct acceptor *acceptor, struct ballot ballot,
                            struct register_value value)
{
    bool refused = ballot_compare(ballot, acceptor->promised) < 0;
    if (refused && !planted(BUG_LAST_WRITER_DECIDES)) return STATUS_STALE;
    if (ballot_equal(ballot, acceptor->accepted)) {
        return register_value_equal(acceptor_value(acceptor), value) ? STATUS_OK : STATUS_INVALID;
    }

    struct buf taken = {.heap = acceptor->value.heap};
    register_value_encode(value, &taken);
    if (buf_status(&taken) != STATUS_OK) {
        buf_deinit(&taken);
        return STATUS_NOMEM;
    }
    buf_deinit(&acceptor->value);
    acceptor->value = taken;
    acceptor->promised = ballot;
    acceptor->accepted = ballot;
    return STATUS_OK;
}

void acceptor_reset(struct acceptor *acceptor)
{
    acceptor->promised = (struct ballot){0};
    acceptor->accepted = (struct ballot){0};
    buf_clear(&acceptor->value);
}
