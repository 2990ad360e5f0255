#include <ctype.h>
#include <stdio.h>

int main(void) {
    unsigned long words = 0;
    int character, inside = 0;
    while ((character = getchar()) != EOF) {
        if (isspace(character)) {
            inside = 0;
        } else if (!inside) {
            inside = 1;
            words++;
        }
    }
    printf("%lu\n", words);
    return 0;
}
