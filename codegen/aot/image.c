/* See image.h. The global is a packed structure of byte arrays and pointers in turn. */
#include "codegen/aot/image.h"
#include "graph/diag.h"
#include <stdlib.h>
#include <string.h>

size_t image_room(Image *m, size_t bytes) {
  while (m->bytes.n % 8) vec_push(m->a, &m->bytes, 0);
  size_t at = (size_t)m->bytes.n;
  for (size_t i = 0; i < bytes; i++) vec_push(m->a, &m->bytes, 0);
  return at;
}

void *image_at(Image *m, size_t at) { return m->bytes.at + at; }

size_t image_put(Image *m, const void *data, size_t bytes) {
  size_t at = image_room(m, bytes);
  if (bytes) memcpy(image_at(m, at), data, bytes);
  return at;
}

size_t image_text(Image *m, const char *s) { return image_put(m, s, strlen(s) + 1); }

void image_point(Image *m, size_t at, size_t to) {
  ImageLink l = {at, to, NULL};
  vec_push(m->a, &m->link, l);
}

void image_symbol(Image *m, size_t at, const char *symbol) {
  ImageLink l = {at, 0, symbol};
  vec_push(m->a, &m->link, l);
}

static int by_place(const void *a, const void *b) {
  const ImageLink *x = a, *y = b;
  return (x->at > y->at) - (x->at < y->at);
}

static LLVMValueRef target_of(Image *m, LLVMModuleRef mod, LLVMValueRef self, const ImageLink *l) {
  LLVMContextRef cx = LLVMGetModuleContext(mod);
  if (!l->symbol) {
    LLVMValueRef off = LLVMConstInt(LLVMInt64TypeInContext(cx), l->to, 0);
    return LLVMConstInBoundsGEP2(LLVMInt8TypeInContext(cx), self, &off, 1);
  }
  LLVMValueRef f = LLVMGetNamedFunction(mod, l->symbol);
  if (!f) f = LLVMGetNamedGlobal(mod, l->symbol);
  if (!f) bug("image: no symbol %s", l->symbol);
  (void)m;
  return f;
}

LLVMValueRef image_emit(Image *m, LLVMModuleRef mod, const char *name) {
  LLVMContextRef cx = LLVMGetModuleContext(mod);
  LLVMTypeRef ptr = LLVMPointerTypeInContext(cx, 0), i8 = LLVMInt8TypeInContext(cx);
  int n = m->link.n;
  qsort(m->link.at, (size_t)n, sizeof *m->link.at, by_place);
  LLVMTypeRef *type = arena_array(m->a, LLVMTypeRef, 2 * n + 1);
  LLVMValueRef *val = arena_array(m->a, LLVMValueRef, 2 * n + 1);
  size_t at = 0;
  for (int i = 0; i <= n; i++) {
    size_t end = i < n ? m->link.at[i].at : (size_t)m->bytes.n;
    if (end < at) bug("image: pointers overlap");
    val[2 * i] = LLVMConstStringInContext2(cx, m->bytes.at + at, end - at, 1);
    type[2 * i] = LLVMArrayType2(i8, end - at);
    if (i < n) type[2 * i + 1] = ptr;
    at = end + 8;
  }
  LLVMTypeRef all = LLVMStructTypeInContext(cx, type, (unsigned)(2 * n + 1), 1);
  LLVMValueRef g = LLVMAddGlobal(mod, all, name);
  for (int i = 0; i < n; i++) val[2 * i + 1] = target_of(m, mod, g, &m->link.at[i]);
  LLVMSetInitializer(g, LLVMConstStructInContext(cx, val, (unsigned)(2 * n + 1), 1));
  LLVMSetGlobalConstant(g, 1);
  LLVMSetLinkage(g, LLVMInternalLinkage);
  LLVMSetAlignment(g, 64);
  return g;
}
