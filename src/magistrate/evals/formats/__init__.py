"""Cases from and for elsewhere: other people's sets as cases, our cases as their tasks."""
