<?php

namespace Acme\Phrases;

final class Greeting
{
    public static function to(string $whom): string
    {
        return "Hello from $whom";
    }
}
