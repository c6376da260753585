/* Arena: bump allocation with one lifetime.
 *
 * tg has three lifetimes, named where an arena is made: *session* (the whole run), *unit* (one script or one
 * prompt entry with its graph), *scratch* (one pass). Nothing is freed singly; arena_free ends them all.
 * Memory is zeroed and 16-byte aligned. On exhaustion the arena calls its `oom` hook, which must not return
 * (the front end unwinds to its boundary with error R003); without a hook it prints and exits with 1. */
#ifndef TG_GRAPH_ARENA_H
#define TG_GRAPH_ARENA_H
#include <stdarg.h>
#include <stddef.h>

typedef struct Arena Arena;

Arena *arena_new(void);
void arena_free(Arena *a);
void arena_on_oom(Arena *a, void (*oom)(void *ctx, size_t wanted), void *ctx);
void *arena_alloc(Arena *a, size_t bytes);
void *arena_copy(Arena *a, const void *src, size_t bytes);
char *arena_strndup(Arena *a, const char *s, size_t n);
char *arena_strdup(Arena *a, const char *s);
char *arena_printf(Arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3), nonnull(2)));
char *arena_vprintf(Arena *a, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0), nonnull(2)));
size_t arena_bytes(const Arena *a);

#define arena_new_of(a, T) ((T *)arena_alloc((a), sizeof(T)))
#define arena_array(a, T, n) ((T *)arena_alloc((a), sizeof(T) * (size_t)((n) ? (n) : 1)))

/* Growable array inside an arena: `VEC(T) v = {0}; vec_push(arena, &v, x);`. Old storage is left in the arena. */
#define VEC(T)                                                                                                         \
  struct {                                                                                                             \
    T *at;                                                                                                             \
    int n, cap;                                                                                                        \
  }
#define vec_push(a, v, x)                                                                                              \
  ((v)->n == (v)->cap ? vec_grow_((a), (void **)&(v)->at, &(v)->cap, sizeof *(v)->at, (v)->n) : (void)0,               \
   (v)->at[(v)->n++] = (x))
void vec_grow_(Arena *a, void **at, int *cap, size_t elem, int n);
#endif
