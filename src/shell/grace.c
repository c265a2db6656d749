#include "shell/grace.h"

#include <urcu-qsbr.h>

#include "shell/tsan.h"

static char order; /* Stands for the grace periods, which ThreadSanitizer cannot see. */

void grace_register(void)
{
    urcu_qsbr_register_thread();
    urcu_qsbr_thread_offline();
}

void grace_unregister(void)
{
    urcu_qsbr_unregister_thread();
}

void grace_online(void)
{
    urcu_qsbr_thread_online();
}

void grace_offline(void)
{
    tsan_release(&order);
    urcu_qsbr_thread_offline();
}

void grace_wait(void)
{
    urcu_qsbr_synchronize_rcu();
    tsan_acquire(&order);
}
