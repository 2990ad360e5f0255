//! What a shim gives back to the kernel while it has nothing to do: it lives as long as its container, and there is
//! one for each.

use std::ffi::{c_int, c_void};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use wharf_safefs::trusted;

/// How far below the current frame the stack is left alone: the frames of what is called here fit in it.
const STACK_MARGIN_BYTES: usize = 16 << 10;
/// How far below that it is given back.
const STACK_BYTES: usize = 1 << 20;

/// The most ranges that are given back at a time; a program and its libraries have about four each.
const MAX_RANGES: usize = 64;

/// Bits of an entry of `/proc/self/pagemap` (kernel `Documentation/admin-guide/mm/pagemap.rst`).
const PAGE_IS_PRESENT: u64 = 1 << 63;
const PAGE_IS_SWAPPED: u64 = 1 << 62;
const PAGE_IS_OF_A_FILE: u64 = 1 << 61;
/// Entries that are read at a time.
const ENTRIES_AT_ONCE: usize = 256;

/// Gives back free heap, unused stack, and the pages of the program and its libraries.
///
/// The kernel maps a program's pages by the dozen, so that what only setting up needs would count for the whole
/// life of a container. What is used again comes back from the page cache. To be called on the first thread, where
/// no signal runs a handler.
pub fn release() {
    release_found(Ranges::default());
}

/// The same in a container, whose `/proc` may be anything: what may have been written is left alone.
pub fn release_in_container() {
    release_found(Ranges::new(None));
}

fn release_found(mut ranges: Ranges) {
    ranges.find();
    // SAFETY: nothing lives below the stack's end.
    unsafe { release_stack(ranges.page_bytes) };
    #[cfg(target_env = "gnu")]
    // SAFETY: plain call into the allocator.
    unsafe {
        libc::malloc_trim(0);
    }
    // In one go, without anything in between that would bring pages back.
    for range in ranges.found.iter().take(ranges.count) {
        // SAFETY: pages of a file that were not written: what is dropped is read again when it is used.
        unsafe { give_back(range) };
    }
}

/// Gives back the stack below the caller's frame.
///
/// # Safety
/// Nothing may live there.
#[inline(never)]
unsafe fn release_stack(page_bytes: usize) {
    let here = 0_u8;
    let end = (&raw const here as usize).saturating_sub(STACK_MARGIN_BYTES);
    let end = end / page_bytes * page_bytes;
    // What is not mapped in the range is left out.
    // SAFETY: the range lies below all frames, and below a stack there is a gap.
    unsafe { give_back(&(end.saturating_sub(STACK_BYTES)..end)) };
}

/// Drops a range of pages.
///
/// # Safety
/// The range has whole pages, whose content is not needed or comes back by itself.
unsafe fn give_back(range: &Range<usize>) {
    let start = range.start as *mut c_void;
    // What cannot be given back stays.
    // SAFETY: the caller's.
    let _ = unsafe { libc::madvise(start, range.end - range.start, libc::MADV_DONTNEED) };
}

/// Pages of the program and its libraries that are as their files have them. Kept without the heap, which would
/// bring its own code back.
struct Ranges {
    found: [Range<usize>; MAX_RANGES],
    count: usize,
    page_bytes: usize,
    page_map: Option<File>,
}

impl Default for Ranges {
    fn default() -> Self {
        // Without it what may have been written is left alone.
        Self::new(trusted::open("/proc/self/pagemap").ok())
    }
}

impl Ranges {
    fn new(page_map: Option<File>) -> Self {
        // SAFETY: plain call.
        let page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        Self {
            found: [const { 0..0 }; MAX_RANGES],
            count: 0,
            page_bytes: usize::try_from(page_bytes).unwrap_or(4096),
            page_map,
        }
    }

    fn find(&mut self) {
        // SAFETY: the callback fits what it is called with.
        unsafe { libc::dl_iterate_phdr(Some(see_object), (&raw mut *self).cast()) };
    }

    fn add(&mut self, range: Range<usize>) {
        if let Some(free) = self.found.get_mut(self.count).filter(|_| !range.is_empty()) {
            *free = range;
            self.count += 1;
        }
    }

    /// Adds what was not written of a range.
    fn add_unwritten(&mut self, range: Range<usize>) {
        let Some(page_map) = self.page_map.take() else {
            return;
        };
        let mut begun = range.start;
        let mut address = range.start;
        let mut bytes = [0; ENTRIES_AT_ONCE * size_of::<u64>()];
        'pages: while address < range.end {
            let pages = (range.end - address) / self.page_bytes;
            let wanted = pages.min(ENTRIES_AT_ONCE) * size_of::<u64>();
            let place = address / self.page_bytes * size_of::<u64>();
            let entries = bytes.get_mut(..wanted).unwrap_or_default();
            if page_map.read_exact_at(entries, place as u64).is_err() {
                break;
            }
            for entry in entries.chunks_exact(size_of::<u64>()) {
                let Some(entry) = entry.first_chunk().copied().map(u64::from_ne_bytes) else {
                    break 'pages;
                };
                let next = address + self.page_bytes;
                if is_written(entry) {
                    self.add(begun..address);
                    begun = next;
                }
                address = next;
            }
        }
        self.add(begun..address);
        self.page_map = Some(page_map);
    }
}

/// Says whether a page of a private mapping of a file is a copy of its own.
fn is_written(entry: u64) -> bool {
    let is_copy = entry & PAGE_IS_PRESENT != 0 && entry & PAGE_IS_OF_A_FILE == 0;
    is_copy || entry & PAGE_IS_SWAPPED != 0
}

/// Adds an object's segments to the ranges behind `data`.
unsafe extern "C" fn see_object(
    object: *mut libc::dl_phdr_info,
    _size: usize,
    data: *mut c_void,
) -> c_int {
    // SAFETY: the loader passes what `find` gave it, which nobody else uses meanwhile, and a valid object with as
    // many headers as it says.
    let (ranges, base, headers) = unsafe {
        let object = &*object;
        if object.dlpi_phdr.is_null() {
            return 0;
        }
        let count = usize::from(object.dlpi_phnum);
        let headers = std::slice::from_raw_parts(object.dlpi_phdr, count);
        (
            &mut *data.cast::<Ranges>(),
            object.dlpi_addr as usize,
            headers,
        )
    };
    let page = ranges.page_bytes;
    for header in headers
        .iter()
        .filter(|header| header.p_type == libc::PT_LOAD)
    {
        let start = base.wrapping_add(header.p_vaddr as usize);
        let is_writable = header.p_flags & libc::PF_W != 0;
        // Beyond the file's bytes a writable segment goes on with memory of its own.
        let bytes = if is_writable {
            header.p_filesz
        } else {
            header.p_memsz
        };
        let end = start.wrapping_add(bytes as usize);
        let start = start / page * page;
        if is_writable {
            ranges.add_unwritten(start..end / page * page);
        } else {
            ranges.add(start..end.next_multiple_of(page));
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_pages_are_kept() {
        for (entry, expected) in [
            (0, false),
            (PAGE_IS_PRESENT | PAGE_IS_OF_A_FILE, false),
            (PAGE_IS_PRESENT, true),
            (PAGE_IS_SWAPPED, true),
            (PAGE_IS_SWAPPED | PAGE_IS_OF_A_FILE, true),
        ] {
            assert_eq!(is_written(entry), expected, "{entry:x}");
        }
    }

    /// A mapping of a file, some pages written: those are told from the others.
    #[test]
    fn what_was_not_written_is_found() {
        let mut ranges = Ranges::default();
        let page = ranges.page_bytes;
        let file = tempfile::tempfile().unwrap();
        file.set_len((page * 8) as u64).unwrap();
        // SAFETY: a new mapping, used below only.
        let start = unsafe {
            let flags = libc::MAP_PRIVATE;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
            libc::mmap(std::ptr::null_mut(), page * 8, access, flags, fd, 0) as usize
        };
        for number in 0..8 {
            let place = (start + number * page) as *mut u8;
            // SAFETY: inside the mapping.
            unsafe {
                match number {
                    2 | 5 | 6 => place.write_volatile(1),
                    _ => drop(place.read_volatile()),
                }
            }
        }
        ranges.add_unwritten(start..start + page * 8);
        let found: Vec<(usize, usize)> = ranges.found[..ranges.count]
            .iter()
            .map(|range| ((range.start - start) / page, (range.end - start) / page))
            .collect();
        // SAFETY: the mapping is not used after.
        unsafe { libc::munmap(start as *mut c_void, page * 8) };
        assert_eq!(found, [(0, 2), (3, 5), (7, 8)]);
    }

    #[test]
    fn the_program_goes_on_after_its_pages_were_given_back() {
        let mut ranges = Ranges::default();
        ranges.find();
        assert!(
            ranges.count > 3 && ranges.count < MAX_RANGES,
            "{}",
            ranges.count
        );
        for range in &ranges.found[..ranges.count] {
            // In a process of one thread, as a shim is one: nobody else writes to a page meanwhile.
            // SAFETY: what the new process does takes no lock and allocates nothing.
            let forked = unsafe { crate::sys::fork() }.unwrap();
            if forked == 0 {
                // SAFETY: as in `release`.
                unsafe { give_back(range) };
                crate::sys::exit_now(i32::from(std::hint::black_box(format_free()) != 42));
            }
            let mut status = 0;
            // SAFETY: status outlives the call.
            unsafe { libc::waitpid(forked, &raw mut status, 0) };
            assert_eq!(status, 0, "{range:x?}");
        }
    }

    /// Something that touches code and tables and takes no lock.
    fn format_free() -> i32 {
        let text: &dyn AsRef<str> = &"42";
        text.as_ref().parse().unwrap()
    }
}
