/* The object cache: entries come back, damaged ones are ignored and replaced, equal keys are compiled once. */
#include "codegen/cpu/cache.h"
#include "cpu_support.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[64];
static void make_dir(void) {
  snprintf(dir, sizeof dir, "/tmp/tg-cache-XXXXXX");
  cr_assert(mkdtemp(dir));
}
static void each_entry(void (*fn)(const char *path)) {
  DIR *d = opendir(dir);
  char path[400];
  for (struct dirent *e; (e = readdir(d));) {
    snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
    if (e->d_name[0] != '.') fn(path);
  }
  closedir(d);
}
static void delete (const char *path) { unlink(path); }
static void drop_dir(void) {
  each_entry(delete);
  rmdir(dir);
}
static void flip(const char *path) { /* one bit in the middle */
  FILE *f = fopen(path, "r+");
  fseek(f, 0, SEEK_END);
  long n = ftell(f) / 2;
  fseek(f, n, SEEK_SET);
  int c = fgetc(f);
  fseek(f, n, SEEK_SET);
  fputc(c ^ 4, f);
  fclose(f);
}
static void cut(const char *path) {
  struct stat st;
  cr_assert_eq(stat(path, &st), 0);
  cr_assert_eq(truncate(path, st.st_size - 1), 0);
}
static void empty(const char *path) { cr_assert_eq(truncate(path, 0), 0); }

Test(cpu_cache, entries, .init = make_dir, .fini = drop_dir) {
  CacheEntry e;
  cr_expect_not(cache_get(dir, "key", &e));
  cr_expect(cache_put(dir, "key", "me", 2, "object", 6));
  cr_assert(cache_get(dir, "key", &e));
  cr_expect(e.nmeta == 2 && e.nobject == 6 && !memcmp(e.object, "object", 6) && !memcmp(e.meta, "me", 2));
  free(e.block);
  cr_expect_not(cache_get(dir, "kex", &e));
  void (*damage[])(const char *) = {flip, cut, empty};
  for (int i = 0; i < 3; i++) {
    each_entry(damage[i]);
    cr_expect_not(cache_get(dir, "key", &e), "damage %d is seen", i);
    cr_expect(cache_put(dir, "key", "", 0, "new", 3));
    cr_assert(cache_get(dir, "key", &e));
    cr_expect_eq(e.nobject, 3);
    free(e.block);
  }
}
Test(cpu_cache, folder_is_private_and_made_when_needed, .init = make_dir, .fini = drop_dir) {
  rmdir(dir);
  cr_expect(cache_put(dir, "key", "", 0, "x", 1));
  struct stat st;
  cr_assert_eq(stat(dir, &st), 0);
  cr_expect_eq(st.st_mode & 0777, 0700);
  cr_expect_not(cache_put("/proc/none/such", "key", "", 0, "x", 1));
}
Test(cpu_cache, prune_keeps_the_newest, .init = make_dir, .fini = drop_dir) {
  char key[20];
  CacheEntry e;
  for (int i = 0; i < 40; i++) {
    snprintf(key, sizeof key, "%d", i);
    cache_put(dir, key, "", 0, "x", 1);
    usleep(1000);
  }
  cache_prune(dir, 20);
  int left = 0;
  for (int i = 0; i < 40; i++) {
    snprintf(key, sizeof key, "%d", i);
    if (cache_get(dir, key, &e)) left++, free(e.block);
  }
  cr_expect_eq(left, 15);
  cr_assert(cache_get(dir, "39", &e));
  free(e.block);
}
static void writer(int n) {
  char key[20], object[5000];
  for (int i = 0; i < 200; i++) {
    snprintf(key, sizeof key, "%d", i % 10);
    memset(object, 'a' + n, sizeof object);
    cache_put(dir, key, "", 0, object, sizeof object);
    CacheEntry e;
    if (!cache_get(dir, key, &e)) _exit(1);
    const char *o = e.object;
    for (size_t b = 1; b < e.nobject; b++)
      if (o[b] != o[0]) _exit(2);
    free(e.block);
  }
  _exit(0);
}
Test(cpu_cache, concurrent_processes, .init = make_dir, .fini = drop_dir) {
  for (int i = 0; i < 4; i++)
    if (!fork()) writer(i);
  for (int i = 0; i < 4; i++) {
    int status;
    wait(&status);
    cr_expect(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  }
}

#define TEXT "%0 = input f32[33] \"x\" slot 0\n%1 = comp f32[33] for i0 33: (exp %0[i0])\nreturn (%1)\n"
/* In memory and on disk; a damaged object is compiled anew. */
Test(cpu_cache, kernels, .init = make_dir, .fini = drop_dir) {
  Prog p;
  char *error;
  cr_assert(prog_make(&p, TEXT, false, &error));
  Tensor out;
  tensor_alloc(&out, DT_F32, 1, (int64_t[]){33});
  for (int round = 0; round < 3; round++) {
    if (round == 2) each_entry(flip);
    Jit *j = jit_new(dir);
    OneKernel a, b;
    one_kernel(&a, p.a, p.r.out[0], ORD_CHAIN);
    one_kernel(&b, p.a, p.r.out[0], ORD_CHAIN);
    cr_assert(one_compile(&a, j, p.g) && one_compile(&b, j, p.g));
    cr_expect_eq(a.from_disk, round == 1);
    cr_expect_not(b.from_disk);
    cr_expect_eq(a.code.phase[0].fn, b.code.phase[0].fn);
    memset(out.data, 0, tensor_bytes(&out));
    one_run(&a, (void *[]){p.in[0].data, out.data}, 1);
    double x = dt_get_f(DT_F32, p.in[0].data, 5);
    cr_expect_float_eq(dt_get_f(DT_F32, out.data, 5), exp(x), 1e-5 * exp(x));
    a.code.drop(&a.code);
    one_run(&b, (void *[]){p.in[0].data, out.data}, 1); /* still loaded */
    b.code.drop(&b.code);
    jit_free(j);
  }
  tensor_drop(&out);
  prog_free(&p);
}
