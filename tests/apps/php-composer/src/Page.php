<?php

namespace App;

use Acme\Phrases\Greeting;

final class Page
{
    public function text(string $path): string
    {
        return Greeting::to('PHP') . ' at ' . mb_strtoupper($path) . ', ' . gmp_strval(gmp_pow(2, 70)) . "\n";
    }
}
