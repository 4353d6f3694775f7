//! Test only: a stand-in `libnvcuvid.so.1`.
