/* A constant block of bytes with pointers in it, built here, written as one LLVM global.
 *
 * Places are offsets; structures are filled through image_at, whose pointer is valid until the next reservation. */
#ifndef TG_CODEGEN_AOT_IMAGE_H
#define TG_CODEGEN_AOT_IMAGE_H
#include "graph/arena.h"
#include <llvm-c/Core.h>
#include <stddef.h>

typedef struct ImageLink {
  size_t at, to;      /* the pointer's place; inside the image when symbol is NULL */
  const char *symbol; /* function or global of the module */
} ImageLink;

typedef struct Image {
  Arena *a;
  VEC(char) bytes;
  VEC(ImageLink) link;
} Image;

size_t image_room(Image *m, size_t bytes); /* zeroed, aligned to 8 (16 bytes and more: 64 at the start of the image) */
void *image_at(Image *m, size_t at);
size_t image_put(Image *m, const void *data, size_t bytes);
size_t image_text(Image *m, const char *s);
void image_point(Image *m, size_t at, size_t to);
void image_symbol(Image *m, size_t at, const char *symbol);
/* Defines it as the internal constant `name`; symbols must be declared in the module already. */
LLVMValueRef image_emit(Image *m, LLVMModuleRef mod, const char *name);
#endif
