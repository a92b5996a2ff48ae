def increased(number):
    return number + 1
