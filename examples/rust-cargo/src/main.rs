fn main() {
    println!("{} is the answer", itoa::Buffer::new().format(42));
}
