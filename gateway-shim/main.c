/* The shim between HTTP and the fleet: every request becomes an AMQP RPC message. */
#include "gateway-shim/gateway.h"

int main(int argc, char **argv)
{
    return gateway_main(argc, argv);
}
