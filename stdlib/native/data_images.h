/* Folders of images as data sets. */
#ifndef TG_STDLIB_NATIVE_DATA_IMAGES_H
#define TG_STDLIB_NATIVE_DATA_IMAGES_H
#include "stdlib/native/data.h"

/* Rows {x: u8[channels, height, width], y: i32} of the PNG and JPEG files below the sub-folders of `path`, y the number
 * of the sub-folder in the order of names; files in the order of names. Without sub-folders: the images of `path`
 * itself, and no y. height and width 0: the first image's, which all must have; else images are resized (bilinear).
 * channels 0: 1 if the first image is grey, else 3. Opening lists names and reads one header. -1: M_FILE. */
int64_t data_images(DataTable *t, const char *path, int64_t height, int64_t width, int channels, Fault *f);
/* The names of the sub-folders, in y's order; 0 of them: no labels. */
int data_image_classes(const DataTable *t, int64_t id, const char *const **name);
#endif
