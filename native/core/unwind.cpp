// glibc 2.35 has _dl_find_object, and the unwinder inside a static libgcc of GCC 12 asks for it, so that the addon would not load on glibc 2.34. The
// addon is compiled without exceptions and never unwinds: an own definition that finds nothing takes the symbol's place.
extern "C" __attribute__((visibility("hidden"))) int _dl_find_object(void*, void*);
extern "C" int _dl_find_object(void*, void*) { return -1; }
