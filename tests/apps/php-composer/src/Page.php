<?php

namespace App;

use Acme\Phrases\Greeting;

final class Page
{
    public function text(string $path): string
    {
        $mark = file_get_contents(__DIR__ . '/../public/made/mark.txt');
        return Greeting::to('PHP') . $mark . ' at ' . mb_strtoupper($path) . ', ' . gmp_strval(gmp_pow(2, 70)) . "\n";
    }
}
