# cmake -D OUTPUT=… -D "FILES=a.sql;b.sql" -P embed.cmake: the files as a C table (ctl/schema_files.h),
# in the order of their numbers, so that the binary brings its schema along.
cmake_minimum_required(VERSION 3.25)

set(arrays "")
set(rows "")
set(versions "")
set(i 0)
foreach(file ${FILES})
    get_filename_component(name ${file} NAME)
    if(NOT name MATCHES "^([0-9][0-9][0-9])_([a-z0-9_]+)\\.sql$")
        message(FATAL_ERROR "${name}: a migration is named 001_words.sql")
    endif()
    set(number ${CMAKE_MATCH_1})
    if(number IN_LIST versions)
        message(FATAL_ERROR "two migrations have the number ${number}")
    endif()
    list(APPEND versions ${number})
    string(REGEX REPLACE "^0+([0-9])" "\\1" version ${number})
    file(SHA256 ${file} checksum)
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND arrays "static const unsigned char text_${i}[] = {${bytes}0};\n")
    string(APPEND rows "    {${version}, \"${name}\", \"${checksum}\", text_${i}},\n")
    math(EXPR i "${i} + 1")
endforeach()
file(WRITE ${OUTPUT} "/* Made by schema/embed.cmake. */
#include \"ctl/schema_files.h\"

${arrays}
const struct schema_file schema_files[] = {
${rows}};
const size_t schema_files_count = sizeof(schema_files) / sizeof(schema_files[0]);
")
