# How many compilers run at a time: not more than fit into the memory that this process may use, which in a container is
# less than the machine's. Ninja heeds it; others compile one file at a time unless told otherwise.

set(FASTRNN_COMPILER_MEMORY 450)  # MB: a tenth more than the largest takes, see bench/build.py

cmake_host_system_information(RESULT fastrnn_memory QUERY TOTAL_PHYSICAL_MEMORY)
foreach(file IN ITEMS /sys/fs/cgroup/memory.max /sys/fs/cgroup/memory/memory.limit_in_bytes)
    if(EXISTS "${file}")
        file(READ "${file}" fastrnn_limit)  # a number of bytes, or "max"
        if(fastrnn_limit MATCHES "^[0-9]+")
            math(EXPR fastrnn_limit "${CMAKE_MATCH_0} / 1048576")
            if(fastrnn_limit LESS fastrnn_memory)
                set(fastrnn_memory ${fastrnn_limit})
            endif()
        endif()
    endif()
endforeach()
math(EXPR fastrnn_jobs "${fastrnn_memory} / ${FASTRNN_COMPILER_MEMORY}")
if(fastrnn_jobs LESS 1)
    set(fastrnn_jobs 1)
endif()
set_property(GLOBAL PROPERTY JOB_POOLS fastrnn_compilers=${fastrnn_jobs})
set(CMAKE_JOB_POOL_COMPILE fastrnn_compilers)
