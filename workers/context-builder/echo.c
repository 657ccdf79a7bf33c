#include "workers/context-builder/echo.h"

void echo_handle(struct job *job)
{
    job_reply(job, 200, json_incref(job_body(job)));
}
