// The stand-in trtexec: calls what is in the stand-in libnvinfer that lies beside it.
#include <dlfcn.h>
#include <libgen.h>
#include <stdio.h>
#include <unistd.h>

int main(int count, char** arguments)
{
    char own[4096] = {0};
    if (readlink("/proc/self/exe", own, sizeof own - 1) < 0)
    {
        perror("trtexec");
        return 70;
    }
    char path[4200];
    snprintf(path, sizeof path, "%s/" STANDIN_LIBRARY, dirname(own));
    void* library = dlopen(path, RTLD_NOW);
    int (*run)(int, char**) = library ? (int (*)(int, char**))dlsym(library, "standin_trtexec_main") : NULL;
    if (!run)
    {
        fprintf(stderr, "trtexec: %s\n", dlerror());
        return 70;
    }
    return run(count, arguments);
}
