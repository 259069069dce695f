/* Preloaded by tools/cross: hides the SHA instructions of 64-bit ARM from a program, as on a processor without them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/auxv.h>

#define SHA_BITS (1UL << 5 | 1UL << 6) /* HWCAP_SHA1 and HWCAP_SHA2 in Linux's asm/hwcap.h */

unsigned long getauxval(unsigned long type)
{
    static unsigned long (*real)(unsigned long);
    if (!real)
        real = dlsym(RTLD_NEXT, "getauxval");
    unsigned long value = real(type);
    return type == AT_HWCAP ? value & ~SHA_BITS : value;
}
